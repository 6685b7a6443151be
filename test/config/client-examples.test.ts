import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import { checkContainerd } from '../../src/cli/doctor/check-containerd.ts';
import { checkDocker } from '../../src/cli/doctor/check-docker.ts';
import { checkMirrors } from '../../src/cli/doctor/check-mirrors.ts';
import { checkPodman } from '../../src/cli/doctor/check-podman.ts';
import { checkSnapshotter } from '../../src/cli/doctor/check-snapshotter.ts';
import { type ContainerdConfig, readContainerdConfig } from '../../src/cli/doctor/containerd-config.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';

const FOLDER = resolve(import.meta.dirname, '../../config/examples');
const PROXY = new URL('http://proxy.internal:5000');

function example(name: string): string {
  return readFileSync(join(FOLDER, name), 'utf8');
}

let tree: NodeTree;

/** A node with these examples in their places; what doctor finds wrong with it. */
async function problems(places: Readonly<Record<string, string>>): Promise<Finding[]> {
  tree = cleanup.use(
    await NodeTree.create({
      '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock': '',
      '/dev/fuse': '',
      ...Object.fromEntries(Object.entries(places).map(([path, name]) => [path, example(name)])),
    }),
  );
  const found = await readContainerdConfig(tree.files);
  const findings = [
    ...(await checkContainerd(tree.files, found)),
    ...(found.kind === 'read' ? await checkLazyNode(found.config) : []),
    ...(await checkDocker(tree.files, PROXY)),
    ...(await checkPodman(tree.files, PROXY)),
  ];
  return findings.filter(({ status }) => status === 'problem');
}

async function checkLazyNode(config: ContainerdConfig): Promise<Finding[]> {
  const { findings, registries } = await checkMirrors(tree.files, config, PROXY);
  const snapshotter = await checkSnapshotter(tree.files, { proxy: PROXY, mirrored: registries });
  return [...findings, ...snapshotter.findings];
}

const CONTAINERD = '/etc/containerd/config.toml';
const SNAPSHOTTER = '/etc/soci-snapshotter-grpc/config.toml';

describe('config/examples of clients', () => {
  it.each(['containerd-config-v2.toml', 'containerd-config-v3.toml'])(
    "make a node lazy with %s, with the proxy's name and as a mirror",
    async (config) => {
      expect(
        await problems({
          [CONTAINERD]: config,
          '/etc/containerd/certs.d/proxy.internal:5000/hosts.toml': 'containerd-hosts-proxy.toml',
          [SNAPSHOTTER]: 'soci-snapshotter-config.toml',
        }),
      ).toEqual([]);
      await tree[Symbol.asyncDispose]();
      expect(
        await problems({
          [CONTAINERD]: config,
          '/etc/containerd/certs.d/docker.io/hosts.toml': 'containerd-hosts.toml',
          [SNAPSHOTTER]: 'soci-snapshotter-mirror.toml',
        }),
      ).toEqual([]);
    },
  );

  it('make a node pull in parallel, and doctor only says that it is not lazy', async () => {
    const found = await problems({
      [CONTAINERD]: 'containerd-config-v3.toml',
      [SNAPSHOTTER]: 'soci-snapshotter-parallel.toml',
    });
    expect(found.map(({ message }) => message)).toEqual([expect.stringMatching(/never lazy/)]);
  });

  it('set up Docker, and podman, CRI-O, buildah and skopeo', async () => {
    expect(
      await problems({
        '/etc/docker/daemon.json': 'docker-daemon.json',
        '/etc/containers/registries.conf.d/spandrel.conf': 'registries.conf',
      }),
    ).toEqual([]);
  });

  it('are valid for nerdctl and k3s', async () => {
    tree = cleanup.use(await NodeTree.create({ '/etc/nerdctl/nerdctl.toml': example('nerdctl.toml') }));
    expect(await tree.files.readToml('/etc/nerdctl/nerdctl.toml')).toMatchObject({
      kind: 'read',
      value: { snapshotter: 'soci', hosts_dir: ['/etc/containerd/certs.d'] },
    });
    const { mirrors } = parseYaml(example('k3s-registries.yaml')) as {
      mirrors: Record<string, { endpoint: string[] }>;
    };
    for (const { endpoint } of Object.values(mirrors)) expect(endpoint).toEqual([PROXY.origin]);
  });

  it('of clients are all listed in their README', () => {
    const listed = [...example('README.md').matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1]);
    const files = readdirSync(FOLDER).filter((name) =>
      /^(al2023|bottlerocket|containerd|docker|k3s|nerdctl|registries|soci|talos)/.test(name),
    );
    expect(listed.toSorted(byText)).toEqual(files.toSorted(byText));
  });
});

function byText(a: string | undefined, b: string | undefined): number {
  return (a ?? '') < (b ?? '') ? -1 : 1;
}
