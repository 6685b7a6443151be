import { type Finding, Report } from './finding.ts';
import { type NodeFiles, tablesOf, textOf, type TomlTable } from './node-files.ts';

export const PODMAN_FILES = ['/etc/containers/registries.conf', '/etc/containers/registries.conf.d/*.conf'];

/** Checks registries.conf of podman, buildah, skopeo and CRI-O (containers-registries.conf(5)). */
export async function checkPodman(files: NodeFiles, proxy: URL): Promise<Finding[]> {
  const report = new Report('podman');
  const paths = (await Promise.all(PODMAN_FILES.map((pattern) => files.match(pattern)))).flat();
  for (const path of paths) {
    const file = await files.readToml(path);
    if (file.kind === 'damaged') {
      report.problem(
        `${path} is not valid TOML (${file.why}): podman, skopeo and CRI-O pull nothing`,
        'correct it',
      );
    } else if (file.kind === 'read') {
      for (const registry of tablesOf(file.value['registry'])) checkRegistry(report, path, registry, proxy);
    }
  }
  return report.findings;
}

function checkRegistry(report: Report, path: string, registry: TomlTable, proxy: URL): void {
  const prefix = textOf(registry['prefix']) ?? textOf(registry['location']) ?? '';
  const entries = [registry, ...tablesOf(registry['mirror'])];
  const own = entries.find(({ location }) => (textOf(location) ?? '').split('/')[0] === proxy.host);
  if (own === undefined) return;
  if (proxy.protocol === 'http:' && own['insecure'] !== true) {
    report.problem(
      `${path}: HTTPS is expected at ${proxy.host}, but the proxy speaks plain HTTP`,
      'set insecure = true in this entry, or give the proxy TLS',
    );
    return;
  }
  if (textOf(own['location']) === proxy.host && prefix !== proxy.host) {
    report.note(
      `${path}: images of ${prefix} are requested at the root of the proxy, which selects its default ` +
        'upstream',
      `write location = "${proxy.host}/<name of the upstream>" if ${prefix} is not the default; these ` +
        'clients send no ns',
    );
    return;
  }
  report.ok(`${path}: images of ${prefix} come through the proxy`);
}
