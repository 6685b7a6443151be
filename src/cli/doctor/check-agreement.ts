import { type MirrorCheck, USUAL_FOLDER } from './check-mirrors.ts';
import type { ContainerdConfig } from './containerd-config.ts';
import { type Finding, Report } from './finding.ts';
import { serverOf } from './is-same-registry.ts';

/**
 * Reports registries that the snapshotter asks the proxy for, and containerd does not: containerd then
 * resolves their tags at the registry itself, which has no index.
 * @param registries of the snapshotter's mirrors that lead to the proxy
 */
export function checkAgreement(
  check: MirrorCheck,
  registries: readonly string[],
  { file, configPaths, oldMirrors }: ContainerdConfig,
  proxy: URL,
): Finding[] {
  const report = new Report('mirrors');
  const [folder = USUAL_FOLDER] = configPaths;
  for (const registry of new Set(registries)) {
    const other = check.others.get(registry);
    const isLed =
      check.registries.includes(registry) ||
      (check.isDefault && other === undefined) ||
      oldMirrors.some((name) => name === registry || name === '*');
    if (isLed || registry === proxy.host || other?.isReported === true) continue;
    const entry = `server = "${serverOf(registry)}" and [host."${proxy.origin}"]`;
    const unread = check.unread.get(registry);
    report.problem(
      `the snapshotter has a mirror for ${registry}, but containerd does not ask the proxy for it: not lazy`,
      unread !== undefined
        ? `set config_path = "${USUAL_FOLDER}" in the registry section of ${file} and restart containerd: ` +
            `it does not read ${unread}`
        : other !== undefined
          ? `${other.path} does not name ${proxy.origin}: write ${entry}`
          : `write ${folder}/${registry}/hosts.toml with ${entry}`,
      { registry },
    );
  }
  return report.findings;
}
