import { join } from 'node:path';

import type { ContainerdConfig } from './containerd-config.ts';
import { type Finding, Report } from './finding.ts';
import { type NodeFiles, tableAt, textsOf, type TomlTable } from './node-files.ts';

/** Registries for which hosts.toml leads containerd to the proxy. */
export interface MirrorCheck {
  readonly findings: readonly Finding[];
  readonly registries: readonly string[];
}

/** Checks that containerd's hosts.toml files lead to the proxy. */
export async function checkMirrors(
  files: NodeFiles,
  config: ContainerdConfig,
  proxy: URL,
): Promise<MirrorCheck> {
  const report = new Report('mirrors');
  if (config.oldMirrors.length > 0) checkOldMirrors(report, config);
  const folders = [...new Set([...config.configPaths, ...config.transferConfigPaths])];
  const led: string[] = [];
  for (const folder of folders) {
    for (const name of await files.list(folder)) {
      if (await checkHosts(report, files, join(folder, name, 'hosts.toml'), proxy)) led.push(name);
    }
  }
  if (config.configPaths.length === 0) {
    report.note(
      'the CRI plugin has no config_path, so containerd 1 reads no hosts.toml for pods',
      'to mirror registries: set config_path = "/etc/containerd/certs.d" in the registry section, and ' +
        'restart containerd',
    );
  }
  // The file for the proxy's own name only says how to connect to it.
  const registries = led.filter((name) => name !== proxy.host && name !== proxy.host.replace(':', '_') + '_');
  if (registries.length === 0) {
    report.note(
      `no hosts.toml leads to ${proxy.origin}: only images whose names begin with ${proxy.host}/ come ` +
        'through the proxy',
      'to keep image names: copy config/examples/containerd-hosts.toml to ' +
        '/etc/containerd/certs.d/<registry>/hosts.toml',
    );
  }
  return { findings: report.findings, registries };
}

function checkOldMirrors(report: Report, { oldMirrors, configPaths }: ContainerdConfig): void {
  const list = oldMirrors.join(', ');
  if (configPaths.length > 0) {
    report.problem(
      `registry.mirrors (${list}) and config_path are both set: containerd refuses to load its CRI plugin`,
      'move the mirrors to hosts.toml files, and remove registry.mirrors',
    );
  } else {
    report.note(
      `registry.mirrors (${list}) is used, which containerd 2 has removed`,
      'use config_path and hosts.toml; as it is, the endpoint must have no path: containerd sends ?ns=',
    );
  }
}

/** True if the file leads containerd to the proxy. */
async function checkHosts(report: Report, files: NodeFiles, path: string, proxy: URL): Promise<boolean> {
  const file = await files.readToml(path);
  if (file.kind === 'missing') return false;
  if (file.kind === 'damaged') {
    report.problem(`${path} is not valid TOML (${file.why}): pulls from this registry fail`, 'correct it');
    return false;
  }
  const hosts = tableAt(file.value, 'host');
  const address = Object.keys(hosts).find((host) => URL.canParse(host) && new URL(host).host === proxy.host);
  if (address === undefined) {
    const bare = Object.keys(hosts).find((host) => host === proxy.host);
    if (bare === undefined) return false;
    report.problem(`${path}: [host."${bare}"] has no scheme`, `write [host."${proxy.origin}"]`);
    return false;
  }
  return checkEntry(report, path, address, tableAt(hosts, address), proxy);
}

function checkEntry(report: Report, path: string, address: string, entry: TomlTable, proxy: URL): boolean {
  const { capabilities } = entry;
  const able = capabilities === undefined ? ['pull', 'resolve'] : textsOf(capabilities);
  const missing = ['pull', 'resolve'].filter((capability) => !able.includes(capability));
  if (missing.length > 0) {
    const effect = missing.includes('resolve')
      ? 'tags are resolved at the registry itself, and are not lazy'
      : 'no blob comes from it';
    report.problem(
      `${path}: the proxy lacks the capability ${missing.join(' and ')}, so ${effect}`,
      'set capabilities = ["pull", "resolve"]',
    );
    return false;
  }
  if (new URL(address).protocol !== proxy.protocol) {
    report.problem(
      `${path} names ${address}, but the proxy speaks ${proxy.protocol.replace(':', '')}`,
      `write [host."${proxy.origin}"]`,
    );
    return false;
  }
  // containerd appends `/v2` to other paths, unless override_path is set.
  const { pathname } = new URL(address);
  const isRoot = /^\/(v2\/?)?$/.test(pathname);
  if (!isRoot || (pathname === '/' && entry['override_path'] === true)) {
    report.problem(
      `${path}: containerd sends ?ns= with the registry's name, so ${address} must have no path` +
        `${entry['override_path'] === true ? ' and no override_path' : ''}: the proxy would take it for a ` +
        'part of the repository',
      `write [host."${proxy.origin}"], without override_path`,
    );
    return false;
  }
  report.ok(`${path} leads to the proxy`);
  return true;
}
