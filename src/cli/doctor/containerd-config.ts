import {
  mergeTables,
  type NodeFiles,
  tableAt,
  tablesOf,
  textOf,
  textsOf,
  type TomlTable,
} from './node-files.ts';

/** Paths of containerd's configuration: its own packages, k3s, RKE2. */
const CONFIG_FILES = [
  '/etc/containerd/config.toml',
  '/var/lib/rancher/k3s/agent/etc/containerd/config.toml',
  '/var/lib/rancher/rke2/agent/etc/containerd/config.toml',
];

/** The parts of containerd's configuration that matter for mirrors and lazy loading, in any layout. */
export interface ContainerdConfig {
  readonly file: string;
  /** Version of the layout, 1 to 3: containerd 2 reads 2 and 3, containerd 1 reads 1 and 2. */
  readonly version: number;
  /** Of the CRI plugin, for Kubernetes. */
  readonly snapshotter: string | undefined;
  /** As configured; the default of containerd 1 is true. */
  readonly disableSnapshotAnnotations: boolean | undefined;
  readonly discardUnpackedLayers: boolean;
  /** Folders of hosts.toml files for pulls of Kubernetes. */
  readonly configPaths: readonly string[];
  /** Registries of the old `registry.mirrors`. */
  readonly oldMirrors: readonly string[];
  readonly proxyPlugin: { readonly address: string | undefined; readonly annotations: boolean } | undefined;
  /** Snapshotters for which the transfer service (containerd 2, nerdctl, ctr) unpacks. */
  readonly unpackSnapshotters: readonly string[];
  readonly transferConfigPaths: readonly string[];
}

export type FoundConfig =
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged'; readonly file: string; readonly why: string }
  | { readonly kind: 'read'; readonly config: ContainerdConfig };

/** The node's containerd configuration with its imports, from the first path that exists. */
export async function readContainerdConfig(files: NodeFiles): Promise<FoundConfig> {
  for (const file of CONFIG_FILES) {
    const found = await files.readToml(file);
    if (found.kind === 'damaged') return { kind: 'damaged', file, why: found.why };
    if (found.kind === 'missing') continue;
    let value = found.value;
    for (const pattern of textsOf(value['imports'])) {
      for (const imported of await files.match(pattern)) {
        const part = await files.readToml(imported);
        if (part.kind === 'damaged') return { kind: 'damaged', file: imported, why: part.why };
        if (part.kind === 'read') value = mergeTables(value, part.value);
      }
    }
    return { kind: 'read', config: understand(file, value) };
  }
  return { kind: 'missing' };
}

function understand(file: string, value: TomlTable): ContainerdConfig {
  const version = typeof value['version'] === 'number' ? value['version'] : 1;
  const plugins = tableAt(value, 'plugins');
  // Layouts 1 and 2 of containerd 1, then 2 and 3 of containerd 2 (containerd `docs/cri/config.md`).
  const cri = mergeTables(tableAt(plugins, 'cri'), tableAt(plugins, 'io.containerd.grpc.v1.cri'));
  const newer = tableAt(plugins, 'io.containerd.cri.v1.images');
  const images = mergeTables(tableAt(cri, 'containerd'), newer);
  const registry = mergeTables(tableAt(cri, 'registry'), tableAt(newer, 'registry'));
  const transfer = tableAt(plugins, 'io.containerd.transfer.v1.local');
  const soci = tableAt(value, 'proxy_plugins', 'soci');
  const { disable_snapshot_annotations: disabled } = images;
  return {
    file,
    version,
    snapshotter: textOf(images['snapshotter']),
    disableSnapshotAnnotations: typeof disabled === 'boolean' ? disabled : undefined,
    discardUnpackedLayers: images['discard_unpacked_layers'] === true,
    configPaths: splitPaths(registry['config_path']),
    oldMirrors: Object.keys(tableAt(registry, 'mirrors')),
    proxyPlugin:
      soci['type'] === 'snapshot'
        ? {
            address: textOf(soci['address']),
            annotations: tableAt(soci, 'exports')['enable_remote_snapshot_annotations'] === 'true',
          }
        : undefined,
    unpackSnapshotters: tablesOf(transfer['unpack_config']).flatMap(
      ({ snapshotter }) => textOf(snapshotter) ?? [],
    ),
    transferConfigPaths: splitPaths(transfer['config_path']),
  };
}

function splitPaths(value: TomlTable[string] | undefined): string[] {
  return (textOf(value) ?? '').split(':').filter((path) => path !== '');
}
