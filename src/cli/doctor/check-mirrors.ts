import { join } from 'node:path';

import type { ContainerdConfig } from './containerd-config.ts';
import { type Finding, Report } from './finding.ts';
import { type NodeFiles, tableAt, textOf, textsOf, type TomlTable } from './node-files.ts';
import { isSameRegistry, serverOf } from './is-same-registry.ts';

/** Folder of the examples, and of most distributions. */
export const USUAL_FOLDER = '/etc/containerd/certs.d';
/** Applies to registries without a folder of their own. */
const DEFAULT_NAME = '_default';

/** What hosts.toml files say about the proxy. */
export interface MirrorCheck {
  readonly findings: readonly Finding[];
  /** Registries for which a file of their own leads containerd to the proxy. */
  readonly registries: readonly string[];
  /** Whether `_default` leads all registries without a file to the proxy. */
  readonly isDefault: boolean;
  /** Files by registry that do not lead to the proxy, and whether a finding says why. */
  readonly others: ReadonlyMap<string, { readonly path: string; readonly isReported: boolean }>;
  /** Files by registry that lead to the proxy, in a folder that containerd does not read. */
  readonly unread: ReadonlyMap<string, string>;
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
  const others = new Map<string, { readonly path: string; readonly isReported: boolean }>();
  for (const { name, path } of await listHosts(files, folders)) {
    const before = report.findings.length;
    const verdict = await checkHosts(report, files, { name, path, proxy });
    if (verdict === 'leads') led.push(name);
    else if (verdict === 'other')
      others.set(registryOf(name), { path, isReported: report.findings.length > before });
  }
  if (config.configPaths.length === 0) {
    report.note(
      'the CRI plugin has no config_path, so containerd 1 reads no hosts.toml for pods',
      `to mirror registries: set config_path = "${USUAL_FOLDER}" in the registry section, and restart ` +
        'containerd',
    );
  }
  const isDefault = led.includes(DEFAULT_NAME);
  // The file for the proxy's own name only says how to connect to it.
  const registries = led.filter((name) => name !== DEFAULT_NAME).map(registryOf);
  const mirrored = registries.filter((registry) => registry !== proxy.host);
  if (mirrored.length === 0 && !isDefault) {
    report.note(
      `no hosts.toml leads to ${proxy.origin}: only images whose names begin with ${proxy.host}/ come ` +
        'through the proxy',
      'to keep image names: copy config/examples/containerd-hosts.toml to ' +
        `${USUAL_FOLDER}/<registry>/hosts.toml`,
    );
  }
  const unread = folders.includes(USUAL_FOLDER) ? new Map<string, string>() : await findUnread(files, proxy);
  return { findings: report.findings, registries: mirrored, isDefault, others, unread };
}

interface HostsFile {
  /** Of its folder. */
  readonly name: string;
  readonly path: string;
}

async function listHosts(files: NodeFiles, folders: readonly string[]): Promise<HostsFile[]> {
  const found: HostsFile[] = [];
  for (const folder of folders)
    for (const name of await files.list(folder)) found.push({ name, path: join(folder, name, 'hosts.toml') });
  return found;
}

async function findUnread(files: NodeFiles, proxy: URL): Promise<Map<string, string>> {
  const unread = new Map<string, string>();
  for (const { name, path } of await listHosts(files, [USUAL_FOLDER]))
    if ((await checkHosts(new Report('mirrors'), files, { name, path, proxy })) === 'leads')
      unread.set(registryOf(name), path);
  return unread;
}

/** `host_5000_` stands for `host:5000` (containerd `core/remotes/docker/config/hosts.go`). */
function registryOf(folder: string): string {
  return folder.replace(/^(.+)_(\d+)_$/, '$1:$2');
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

/** `none`: the folder has no such file. */
async function checkHosts(
  report: Report,
  files: NodeFiles,
  { name, path, proxy }: HostsFile & { readonly proxy: URL },
): Promise<'leads' | 'other' | 'none'> {
  const file = await files.readToml(path);
  if (file.kind === 'missing') return 'none';
  if (file.kind === 'damaged') {
    report.problem(`${path} is not valid TOML (${file.why}): pulls from this registry fail`, 'correct it');
    return 'other';
  }
  const unknown = Object.keys(file.value).filter((key) => !HOSTS_KEYS.has(key));
  if (unknown.length > 0)
    report.problem(
      `${path}: containerd does not know ${unknown.join(', ')}, and ignores it`,
      `hosts are written as [host."${proxy.origin}"]`,
    );
  const hosts = tableAt(file.value, 'host');
  const address = Object.keys(hosts).find((host) => URL.canParse(host) && new URL(host).host === proxy.host);
  if (address === undefined) {
    const bare = Object.keys(hosts).find((host) => host === proxy.host);
    if (bare !== undefined)
      report.problem(`${path}: [host."${bare}"] has no scheme`, `write [host."${proxy.origin}"]`);
    return 'other';
  }
  if (!checkEntry(report, path, address, tableAt(hosts, address), proxy)) return 'other';
  if (name !== DEFAULT_NAME)
    checkServer(report, path, { registry: registryOf(name), server: textOf(file.value['server']), proxy });
  return 'leads';
}

/** Keys at the top of hosts.toml (containerd `docs/hosts.md`). */
const HOSTS_KEYS: ReadonlySet<string> = new Set([
  'server',
  'host',
  'capabilities',
  'ca',
  'client',
  'skip_verify',
  'header',
  'override_path',
  'dial_timeout',
]);

/** containerd asks `server` after all hosts; without one, the registry itself. */
function checkServer(
  report: Report,
  path: string,
  {
    registry,
    server,
    proxy,
  }: { readonly registry: string; readonly server: string | undefined; readonly proxy: URL },
): void {
  if (server === undefined || registry === proxy.host) return;
  const address = server.startsWith('http') ? server : `https://${server}`;
  const host = URL.canParse(address) ? new URL(address).host : server;
  if (host === proxy.host)
    report.note(
      `${path}: server is the proxy too, so nothing can be pulled while the proxy is away`,
      `write server = "${serverOf(registry)}", unless that is intended`,
    );
  else if (!isSameRegistry(host, registry))
    report.problem(
      `${path}: server = "${server}" is not the registry of this folder: while the proxy is away, images ` +
        `of ${registry} are looked for there`,
      `write server = "${serverOf(registry)}"`,
      { registry },
    );
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
