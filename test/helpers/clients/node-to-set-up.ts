import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { checkContainerd } from '../../../src/cli/doctor/check-containerd.ts';
import { checkMirrors } from '../../../src/cli/doctor/check-mirrors.ts';
import { checkSnapshotter } from '../../../src/cli/doctor/check-snapshotter.ts';
import { readContainerdConfig } from '../../../src/cli/doctor/containerd-config.ts';
import type { Finding } from '../../../src/cli/doctor/finding.ts';
import { cleanup } from '../cleanup.ts';
import { NodeTree } from './node-tree.ts';
import { runInProcess } from '../run-in-process.ts';

export const PROXY = 'https://registry.internal.example.com';
export const HTTP_PROXY = 'http://proxy.internal:5000';
export const ECR = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
export const CONFIG = '/etc/containerd/config.toml';
export const SNAPSHOTTER = '/etc/soci-snapshotter-grpc/config.toml';
export const SOCKET = '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock';
/** The node has the snapshotter and FUSE. */
export const LAZY_NODE = { [SOCKET]: '', '/dev/fuse': '' };

export const CONFIG_V2 = `# written by the image of the node
version = 2
root = "/var/lib/containerd"

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause:3.9" # keep this one

    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "overlayfs"  # the default
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
`;

export const CONFIG_V3 = `version = 3
# GPUs
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'nvidia'

[plugins.'io.containerd.cri.v1.images']
disable_snapshot_annotations = true

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'

[plugins.'io.containerd.transfer.v1.local']
config_path = ''

[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
platform = 'linux/amd64'
snapshotter = 'overlayfs'
`;

export async function nodeWith(texts: Readonly<Record<string, string>>): Promise<NodeTree> {
  return cleanup.use(await NodeTree.create(texts));
}

export async function setUp(node: NodeTree, ...flags: string[]): ReturnType<typeof runInProcess> {
  return runInProcess('node', 'setup', '--root', node.root, ...flags);
}

/** Every file of the node with its text and mode. */
export async function snapshot(node: NodeTree): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const entry of await readdir(node.root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile()) continue;
    const { mode } = await stat(path);
    files[path.slice(node.root.length)] = `${(mode & 0o777).toString(8)} ${await readFile(path, 'utf8')}`;
  }
  return files;
}

export async function textOf(node: NodeTree, path: string): Promise<string> {
  return readFile(join(node.root, path), 'utf8');
}

/** What doctor finds wrong in the files of a lazy node. */
export async function problems(node: NodeTree, proxy: string): Promise<Finding[]> {
  const url = new URL(proxy);
  const found = await readContainerdConfig(node.files);
  if (found.kind !== 'read') throw new Error('the node has no containerd');
  const { findings, registries } = await checkMirrors(node.files, found.config, url);
  const { findings: lazy } = await checkSnapshotter(node.files, { proxy: url, mirrored: registries });
  const all = [...(await checkContainerd(node.files, found)), ...findings, ...lazy];
  return all.filter(({ status }) => status === 'problem');
}
