import { parseEcrHost } from '../../core/ecr-host.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { type Finding, Report } from './finding.ts';
import { type NodeFiles, tableAt, textOf, type TomlTable } from './node-files.ts';
import { checkProtocol, readMirrors, reportLoopback, type SnapshotterMirror } from './snapshotter-mirrors.ts';

export const SNAPSHOTTER_FILE = '/etc/soci-snapshotter-grpc/config.toml';
const DOCKER_CONFIG = '/root/.docker/config.json';

export interface SnapshotterQuestion {
  readonly proxy: URL;
  /** Registries for which containerd has the proxy as a mirror. */
  readonly mirrored: readonly string[];
}

/** How the snapshotter finds indexes, as configured. */
export interface PullModes {
  readonly v1: boolean;
  readonly v2: boolean;
}

export interface SnapshotterCheck {
  readonly findings: readonly Finding[];
  readonly modes: PullModes;
  /** Those that lead to the proxy. */
  readonly mirrors: readonly SnapshotterMirror[];
}

/** Checks that the soci-snapshotter (0.10 and later) pulls lazily and through the proxy. */
export async function checkSnapshotter(
  files: NodeFiles,
  question: SnapshotterQuestion,
): Promise<SnapshotterCheck> {
  const report = new Report('snapshotter');
  const file = await files.readToml(SNAPSHOTTER_FILE);
  if (file.kind === 'damaged') {
    report.problem(
      `${SNAPSHOTTER_FILE} is not valid TOML (${file.why}): the snapshotter does not start`,
      'correct it',
    );
    return { findings: report.findings, modes: { v1: false, v2: false }, mirrors: [] };
  }
  const config = file.kind === 'read' ? file.value : {};
  if (file.kind === 'missing')
    report.ok(`there is no ${SNAPSHOTTER_FILE}: the defaults apply, which allow lazy loading`);
  const modes = checkModes(report, config);
  const mirrors = checkTopology(report, config, question);
  await checkCredentials(report, files, config, mirrors);
  if (!(await files.exists('/dev/fuse'))) {
    report.problem(
      'there is no /dev/fuse: nothing can be mounted lazily',
      'load the kernel module: modprobe fuse',
      {
        atBoot: 'load the kernel module fuse, for /dev/fuse: a line "fuse" in /etc/modules-load.d/fuse.conf',
      },
    );
  }
  return { findings: report.findings, modes, mirrors };
}

function checkModes(report: Report, config: TomlTable): PullModes {
  const mode = (name: string): TomlTable => tableAt(config, 'pull_modes', name);
  const [parallel, v1, v2] = [
    mode('parallel_pull_unpack')['enable'] === true,
    mode('soci_v1')['enable'] === true,
    mode('soci_v2')['enable'] !== false,
  ];
  if (parallel) {
    report.problem(
      'parallel_pull_unpack is on: the snapshotter then fetches whole images in parallel and is never lazy',
      'set enable = false in [pull_modes.parallel_pull_unpack] (EKS and Bottlerocket turn it on), or ' +
        'leave it if whole images are wanted',
    );
    checkParallel(report, config, mode('parallel_pull_unpack'));
    return { v1: false, v2: false };
  }
  if (!v1 && !v2) {
    report.problem(
      'soci_v1 and soci_v2 are both off: the snapshotter looks for no index',
      'set enable = true in [pull_modes.soci_v2]',
    );
  } else if (!v2) {
    report.note(
      'soci_v2 is off: only SOCI v1 indexes are found, by the Referrers API',
      'set enable = true in [pull_modes.soci_v2], unless digests must stay as they are',
    );
  } else {
    report.ok(
      v1
        ? 'the snapshotter looks for SOCI v2 and v1 indexes: tags and original digests are lazy'
        : 'the snapshotter looks for SOCI v2 indexes: tags are lazy; images pulled by their original ' +
            'digest are not (they need soci_v1)',
    );
  }
  return { v1, v2 };
}

function checkParallel(report: Report, config: TomlTable, parallel: TomlTable): void {
  if (parallel['discard_unpacked_layers'] !== true && storeType(config) !== 'containerd') {
    report.problem(
      "parallel_pull_unpack without discard_unpacked_layers needs containerd's content store",
      'set discard_unpacked_layers = true, or type = "containerd" in [content_store]',
    );
  }
  if ((textOf(parallel['concurrent_download_chunk_size']) ?? '') === '') {
    report.note(
      'parallel_pull_unpack has no concurrent_download_chunk_size: each layer is one request',
      'set it to "8mb" or "16mb", and max_concurrent_downloads_per_image to 10 or 20',
    );
  }
}

/** @returns the mirrors that lead to the proxy */
function checkTopology(
  report: Report,
  config: TomlTable,
  { proxy, mirrored }: SnapshotterQuestion,
): SnapshotterMirror[] {
  const mirrors = readMirrors(report, config, proxy);
  for (const mirror of mirrors) checkProtocol(report, proxy, mirror);
  const others = mirrors.map(({ registry }) => registry).filter((registry) => registry !== proxy.host);
  for (const registry of new Set([...mirrored, ...others]))
    checkMirrored(report, config, { registry, isFound: others.includes(registry), proxy });
  const isAddressed = mirrored.length === 0 && others.length === 0;
  if (isAddressed && mirrors.length === 0) checkAddressed(report, proxy);
  return mirrors;
}

/** Images whose names begin with the proxy's. */
function checkAddressed(report: Report, proxy: URL): void {
  const isLocal = isLoopback(proxy.hostname);
  if (isLocal && proxy.protocol === 'https:') reportLoopback(report, proxy.host);
  if (!isLocal && proxy.protocol === 'http:')
    report.problem(
      `the proxy speaks plain HTTP, but the snapshotter expects HTTPS at ${proxy.host}`,
      `add [[resolver.host."${proxy.host}".mirrors]] with host = "${proxy.origin}" and insecure = ` +
        'true, or give the proxy TLS',
    );
}

/** The snapshotter does not use containerd's mirrors: soci-snapshotter issue 1013. */
function checkMirrored(
  report: Report,
  config: TomlTable,
  { registry, isFound, proxy }: { readonly registry: string; readonly isFound: boolean; readonly proxy: URL },
): void {
  if (!isFound) {
    const needsInsecure = proxy.protocol === 'http:' && !isLoopback(proxy.hostname);
    report.problem(
      `containerd asks the proxy for images of ${registry}, but the snapshotter asks ${registry} ` +
        'itself, which has no index: not lazy',
      `add [[resolver.host."${registry}".mirrors]] with host = ` +
        `"${proxy.origin}/v2/${registry}"${needsInsecure ? ' and insecure = true' : ''}`,
    );
  }
  if (storeType(config) !== 'containerd') {
    report.problem(
      'the snapshotter has a content store of its own, so the indexes that containerd fetches for ' +
        `${registry} through the proxy do not reach it: not lazy`,
      'set type = "containerd" in [content_store]',
    );
  }
}

/**
 * While the proxy is away, the snapshotter asks the registry itself (soci-snapshotter
 * `docs/registry-authentication.md`). Only of ECR is it known that it wants credentials.
 */
async function checkCredentials(
  report: Report,
  files: NodeFiles,
  config: TomlTable,
  mirrors: readonly SnapshotterMirror[],
): Promise<void> {
  const hasKeychain = ['cri_keychain', 'kubeconfig_keychain'].some(
    (name) => tableAt(config, name)['enable_keychain'] === true,
  );
  const names = mirrors.map(({ registry }) => registry);
  const locked = names.filter((registry) => parseEcrHost(registry)?.kind === 'private');
  if (locked.length === 0 || hasKeychain || (await files.exists(DOCKER_CONFIG))) return;
  report.note(
    `the snapshotter has no credentials for ${[...new Set(locked)].join(', ')}: while the proxy is away, ` +
      'containers whose layers are not complete do not start',
    `set enable_keychain = true in [cri_keychain] and imageServiceEndpoint of the kubelet, or write ` +
      `${DOCKER_CONFIG} with a credential helper`,
  );
}

function storeType(config: TomlTable): string {
  return textOf(tableAt(config, 'content_store')['type']) ?? 'soci';
}
