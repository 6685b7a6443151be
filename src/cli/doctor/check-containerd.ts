import type { ContainerdConfig, FoundConfig } from './containerd-config.ts';
import { type Finding, Report } from './finding.ts';
import type { NodeFiles } from './node-files.ts';

const NAME = 'soci';
const USUAL_SOCKET = '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock';

/** Checks that containerd uses the snapshotter and passes it what it needs. */
export async function checkContainerd(files: NodeFiles, found: FoundConfig): Promise<Finding[]> {
  const report = new Report('containerd');
  if (found.kind === 'missing') {
    report.note(
      'there is no containerd configuration on this node, so nothing here is pulled lazily',
      'with containerd: copy config/examples/containerd-config-v3.toml (containerd 2) or ' +
        'containerd-config-v2.toml (1.6, 1.7)',
    );
    return report.findings;
  }
  if (found.kind === 'damaged') {
    report.problem(`${found.file} is not valid TOML (${found.why}): containerd does not start`, 'correct it');
    return report.findings;
  }
  const { config } = found;
  report.ok(`${config.file} has layout ${config.version}`);
  await checkPlugin(report, files, config);
  checkSnapshotter(report, config);
  checkAnnotations(report, config);
  return report.findings;
}

async function checkPlugin(
  report: Report,
  files: NodeFiles,
  { proxyPlugin, file }: ContainerdConfig,
): Promise<void> {
  if (proxyPlugin === undefined) {
    report.problem(
      `containerd does not know the soci-snapshotter: ${file} has no [proxy_plugins.${NAME}] of type ` +
        '"snapshot"',
      `add [proxy_plugins.${NAME}] with type = "snapshot" and address = "${USUAL_SOCKET}", and restart ` +
        'containerd',
    );
    return;
  }
  const { address } = proxyPlugin;
  if (address === undefined || address === '') {
    report.problem(`[proxy_plugins.${NAME}] has no address`, `set address = "${USUAL_SOCKET}"`);
  } else if (!(await files.exists(address))) {
    report.problem(
      `nothing listens at ${address}: the soci-snapshotter does not run, so containerd cannot pull with it`,
      'start it (systemctl enable --now soci-snapshotter), or correct the address in [proxy_plugins.soci]',
      {
        atBoot:
          `start the soci-snapshotter before containerd, listening at ${address}: systemctl enable ` +
          'soci-snapshotter',
      },
    );
  } else report.ok(`the soci-snapshotter is registered, and its socket ${address} is there`);
}

function checkSnapshotter(report: Report, config: ContainerdConfig): void {
  const { snapshotter, unpackSnapshotters, version } = config;
  if (snapshotter === NAME) report.ok('Kubernetes (CRI) uses the snapshotter "soci"');
  else {
    const section =
      version >= 3
        ? "[plugins.'io.containerd.cri.v1.images']"
        : `[plugins.${version === 1 ? 'cri' : '"io.containerd.grpc.v1.cri"'}.containerd]`;
    const used = snapshotter === undefined ? 'overlayfs, the default' : `"${snapshotter}"`;
    report.problem(
      `pods are unpacked by ${used}, which always pulls whole images`,
      `set snapshotter = "soci" in ${section}; ctr and nerdctl take --snapshotter soci`,
    );
  }
  // Without `unpack_config`, the transfer service unpacks for overlayfs only. Pods use that service unless
  // disable_snapshot_annotations is false (containerd `core/transfer/local/pull.go`, `core/unpack`).
  const isForPods = snapshotter === NAME && config.disableSnapshotAnnotations !== false;
  const isUsed = unpackSnapshotters.length > 0 || isForPods;
  if (version >= 3 && isUsed && !unpackSnapshotters.includes(NAME)) {
    report.problem(
      'the transfer service unpacks for other snapshotters only, so containerd 2 cannot pull for "soci" ' +
        '("no unpack platforms defined")',
      "add [[plugins.'io.containerd.transfer.v1.local'.unpack_config]] with platform = 'linux' and " +
        "snapshotter = 'soci'",
    );
  }
}

/**
 * Without labels of the layer's digest and the image's name the snapshotter does not know what to fetch
 * lazily.
 */
function checkAnnotations(report: Report, config: ContainerdConfig): void {
  const { disableSnapshotAnnotations: disabled, proxyPlugin, version } = config;
  if (disabled === false) {
    report.ok(
      'the snapshotter is told which layer of which image it prepares (disable_snapshot_annotations = false)',
    );
    return;
  }
  if (proxyPlugin?.annotations === true && version >= 3 && disabled !== true) {
    report.ok(
      'the snapshotter is told which layer of which image it prepares (enable_remote_snapshot_annotations)',
    );
    return;
  }
  report.problem(
    'the snapshotter is not told which layer of which image it prepares, so no layer is ever mounted lazily',
    version >= 3
      ? "from containerd 2.1: set enable_remote_snapshot_annotations = 'true' in " +
          '[proxy_plugins.soci.exports] and remove disable_snapshot_annotations; before: ' +
          'disable_snapshot_annotations = false'
      : 'set disable_snapshot_annotations = false beside snapshotter = "soci"; it is true when not given',
  );
}
