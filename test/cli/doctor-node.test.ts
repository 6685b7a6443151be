import { describe, expect, it } from 'vitest';

import { checkContainerd } from '../../src/cli/doctor/check-containerd.ts';
import { checkDocker } from '../../src/cli/doctor/check-docker.ts';
import { checkMirrors } from '../../src/cli/doctor/check-mirrors.ts';
import { checkMounts } from '../../src/cli/doctor/check-mounts.ts';
import { checkPodman } from '../../src/cli/doctor/check-podman.ts';
import { readContainerdConfig } from '../../src/cli/doctor/containerd-config.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';

const SOCKET = '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock';
const PROXY = new URL('http://127.0.0.1:5000');
const REMOTE = new URL('http://proxy.internal:5000');

const PLUGIN = `[proxy_plugins.soci]\ntype = "snapshot"\naddress = "${SOCKET}"\n`;
const V2 = `version = 2\n${PLUGIN}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "soci"
disable_snapshot_annotations = false
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"\n`;
/** Without a version, or with 1, plugins have their short names (containerd `docs/PLUGINS.md`). */
const V1 = `${PLUGIN}
[plugins.cri.containerd]
snapshotter = "soci"
disable_snapshot_annotations = false
[plugins.cri.registry]
config_path = "/etc/containerd/certs.d"\n`;
const V3 = `version = 3\n${PLUGIN}[proxy_plugins.soci.exports]\nenable_remote_snapshot_annotations = 'true'
[plugins.'io.containerd.cri.v1.images']
snapshotter = 'soci'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
platform = 'linux'
snapshotter = 'soci'\n`;

async function node(texts: Record<string, string>): Promise<NodeTree> {
  return cleanup.use(await NodeTree.create({ [SOCKET]: '', '/dev/fuse': '', ...texts }));
}

/** Messages of the problems. */
function problems(findings: readonly Finding[]): string[] {
  for (const { status, next = '' } of findings) if (status === 'problem') expect(next).not.toBe('');
  return findings.filter(({ status }) => status === 'problem').map(({ message }) => message);
}

async function containerdProblems(config: string, more: Record<string, string> = {}): Promise<string[]> {
  const { files } = await node({ '/etc/containerd/config.toml': config, ...more });
  return problems(await checkContainerd(files, await readContainerdConfig(files)));
}

describe('doctor, containerd', () => {
  it.each([
    ['layout 1, which has no version', V1],
    ['layout 1, written', `version = 1\n${V1}`],
    ['layout 2, with annotations', V2],
    ['layout 3, with the transfer service', V3],
    [
      'layout 2 on containerd 2.0',
      V2.replace(
        '[plugins."io.containerd.grpc.v1.cri".containerd]',
        '[plugins."io.containerd.cri.v1.images"]',
      ),
    ],
  ])('finds nothing wrong with %s', async (_what, config) => {
    expect(await containerdProblems(config)).toEqual([]);
  });

  it.each([
    [
      'no plugin',
      V2.replace('proxy_plugins.soci', 'proxy_plugins.other'),
      /does not know the soci-snapshotter/,
    ],
    ['another kind of plugin', V2.replace('"snapshot"', '"content"'), /does not know the soci-snapshotter/],
    ['no address', V2.replace(`address = "${SOCKET}"`, ''), /no address/],
    [
      'a socket that is not there',
      V2.replace(SOCKET, '/run/gone.sock'),
      /nothing listens at \/run\/gone.sock/,
    ],
    [
      'another snapshotter',
      V2.replace('snapshotter = "soci"', 'snapshotter = "stargz"'),
      /unpacked by "stargz"/,
    ],
    ['no snapshotter', V2.replace('snapshotter = "soci"', ''), /overlayfs, the default/],
    ['another snapshotter in layout 1', V1.replace('"soci"', '"overlayfs"'), /unpacked by "overlayfs"/],
    ['annotations off by default in layout 1', V1.replace(/disable.*/, ''), /not told which layer/],
    ['annotations off by default', V2.replace(/disable.*/, ''), /not told which layer/],
    ['annotations off', V2.replace('= false', '= true'), /not told which layer/],
    ['no annotations in layout 3', V3.replace("'true'", "'false'"), /not told which layer/],
    [
      'a transfer service for others',
      V3.replace("platform = 'linux'\nsnapshotter = 'soci'", "platform = 'linux'\nsnapshotter = 'overlayfs'"),
      /transfer service unpacks for other/,
    ],
    [
      'no unpack_config in layout 3, which leaves overlayfs only',
      V3.replace(/\[\[plugins[^]*$/, ''),
      /transfer service unpacks for other/,
    ],
    ['what is no TOML', 'version = = 2', /not valid TOML/],
  ])('reports %s', async (_what, config, message) => {
    const found = await containerdProblems(config);
    expect(found).toEqual([expect.stringMatching(message)]);
  });

  it.each([
    ['1', V1, '[plugins.cri.containerd]'],
    ['2', V2, '[plugins."io.containerd.grpc.v1.cri".containerd]'],
    ['3', V3, "[plugins.'io.containerd.cri.v1.images']"],
  ])('names the section of layout %s', async (_layout, config, section) => {
    const text = config.replaceAll(/snapshotter = ["']soci["']/g, '');
    const { files } = await node({ '/etc/containerd/config.toml': text });
    const found = await checkContainerd(files, await readContainerdConfig(files));
    expect(found).toContainEqual(expect.objectContaining({ next: expect.stringContaining(section) }));
  });

  it('reads what the configuration imports', async () => {
    const imports = { '/etc/containerd/conf.d/soci.toml': V2.replace('version = 2', '') };
    expect(
      await containerdProblems('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]', imports),
    ).toEqual([]);
  });

  it('finds the configuration that k3s writes', async () => {
    const { files } = await node({ '/var/lib/rancher/k3s/agent/etc/containerd/config.toml': V3 });
    expect(await readContainerdConfig(files)).toMatchObject({
      kind: 'read',
      config: { version: 3, snapshotter: 'soci' },
    });
  });

  it('does not want unpack_config where pods do not use the transfer service', async () => {
    const local = V3.replace(/\[\[plugins[^]*$/, '').replace(
      "snapshotter = 'soci'",
      "snapshotter = 'soci'\ndisable_snapshot_annotations = false",
    );
    expect(await containerdProblems(local)).toEqual([]);
    const without = V3.replace(/\[\[plugins[^]*$/, '').replace("snapshotter = 'soci'", '');
    expect(await containerdProblems(without)).toEqual([expect.stringMatching(/overlayfs, the default/)]);
  });

  it('reports no problem without containerd', async () => {
    const { files } = await node({});
    const findings = await checkContainerd(files, await readContainerdConfig(files));
    expect(findings.map(({ status }) => status)).toEqual(['note']);
  });
});

describe('doctor, hosts.toml', () => {
  const HOSTS = '/etc/containerd/certs.d/docker.io/hosts.toml';

  async function check(
    hosts: string,
    config = V2,
  ): Promise<{ found: string[]; registries: readonly string[] }> {
    const { files } = await node({ '/etc/containerd/config.toml': config, [HOSTS]: hosts });
    const found = await readContainerdConfig(files);
    if (found.kind !== 'read') throw new Error('there is a configuration');
    const { findings, registries } = await checkMirrors(files, found.config, PROXY);
    return { found: problems(findings), registries };
  }

  it.each([
    ['with capabilities', '[host."http://127.0.0.1:5000"]\ncapabilities = ["pull", "resolve"]'],
    ['without', '[host."http://127.0.0.1:5000"]'],
    ['with its server', 'server = "https://registry-1.docker.io"\n[host."http://127.0.0.1:5000"]'],
    ['with its server, short', 'server = "docker.io"\n[host."http://127.0.0.1:5000"]'],
    ['with /v2', '[host."http://127.0.0.1:5000/v2"]\noverride_path = true'],
  ])('that leads to the proxy is found, %s', async (_what, hosts) => {
    expect(await check(hosts)).toEqual({ found: [], registries: ['docker.io'] });
    for (const config of [V1, V3]) expect((await check(hosts, config)).registries).toEqual(['docker.io']);
  });

  it.each([
    [
      'that cannot resolve',
      '[host."http://127.0.0.1:5000"]\ncapabilities = ["pull"]',
      /lacks the capability resolve/,
    ],
    [
      'that cannot pull',
      '[host."http://127.0.0.1:5000"]\ncapabilities = ["resolve"]',
      /lacks the capability pull/,
    ],
    ['of another scheme', '[host."https://127.0.0.1:5000"]', /the proxy speaks http/],
    ['without a scheme', '[host."127.0.0.1:5000"]', /no scheme/],
    [
      'that overrides a path which is none',
      '[host."http://127.0.0.1:5000"]\noverride_path = true',
      /override_path/,
    ],
    [
      'with a path, beside which containerd sends ns',
      '[host."http://127.0.0.1:5000/v2/hub"]\noverride_path = true',
      /must have no path/,
    ],
    ['that is no TOML', '[host.', /not valid TOML/],
    ['with a typing error', '[hosts."http://127.0.0.1:5000"]', /does not know hosts, and ignores it/],
  ])('%s is a problem', async (_what, hosts, message) => {
    expect(await check(hosts)).toEqual({ found: [expect.stringMatching(message)], registries: [] });
  });

  it.each([
    ['https://quay.io', /server = "https:\/\/quay.io" is not the registry of this folder/],
    ['https://docker.io.example.com', /is not the registry of this folder/],
  ])('with the server %s falls back to the wrong registry', async (server, message) => {
    const hosts = `server = "${server}"\n[host."http://127.0.0.1:5000"]`;
    // containerd asks the proxy all the same.
    expect(await check(hosts)).toEqual({
      found: [expect.stringMatching(message)],
      registries: ['docker.io'],
    });
  });

  it('of ECR may have another name of the same account and region as its server, and no other', async () => {
    const names = [
      ['123456789012.dkr.ecr.eu-central-1.amazonaws.com', 0],
      ['123456789012.dkr-ecr.eu-central-1.on.aws', 0],
      ['123456789012.dkr.ecr.eu-west-1.amazonaws.com', 1],
      ['210987654321.dkr.ecr.eu-central-1.amazonaws.com', 1],
    ] as const;
    for (const [name, count] of names) {
      const { files } = await node({
        '/etc/containerd/config.toml': V2,
        '/etc/containerd/certs.d/123456789012.dkr.ecr.eu-central-1.amazonaws.com/hosts.toml': `server = "https://${name}"\n[host."http://127.0.0.1:5000"]`,
      });
      const found = await readContainerdConfig(files);
      if (found.kind !== 'read') throw new Error('there is a configuration');
      const { findings } = await checkMirrors(files, found.config, PROXY);
      expect([name, problems(findings).length]).toEqual([name, count]);
    }
  });

  it('beside registry.mirrors is a problem, which keeps the CRI plugin from loading', async () => {
    const old = `${V2}[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["http://127.0.0.1:5000"]`;
    expect((await check('', old)).found).toEqual([expect.stringMatching(/both set/)]);
  });
});

describe('doctor, mounts', () => {
  const FUSE = 'soci /var/lib/soci-snapshotter-grpc/snapshotter/snapshots/7/fs fuse.rawBridge rw 0 0\n';
  const overlay = (id: number): string =>
    `overlay /run/c${id}/rootfs overlay rw,lowerdir=/var/lib/soci-snapshotter-grpc/snapshotter/snapshots/${id}/fs 0 0\n`;

  it.each([
    ['', 'note', /no container/],
    [FUSE + overlay(7) + overlay(8), 'ok', /mounted by FUSE: 1; containers .*: 1 of 2$/],
    [overlay(8), 'note', /: 0 of 1. All of them were pulled whole/],
  ])('are counted in %j', async (table, status, message) => {
    const { files } = await node({ '/proc/1/mounts': table });
    expect(await checkMounts(files)).toEqual([
      expect.objectContaining({ status, message: expect.stringMatching(message) }),
    ]);
  });
});

describe('doctor, Docker', () => {
  const check = async (config: object | string, proxy = PROXY): Promise<Finding[]> =>
    checkDocker(
      (
        await node({
          '/etc/docker/daemon.json': typeof config === 'string' ? config : JSON.stringify(config),
        })
      ).files,
      proxy,
    );

  it('requires a mirror without a path, and plain HTTP to be allowed', async () => {
    expect(problems(await check({ 'registry-mirrors': ['http://127.0.0.1:5000'] }))).toEqual([]);
    expect(problems(await check({ 'registry-mirrors': ['http://127.0.0.1:5000/hub'] }))).toEqual([
      expect.stringMatching(/must not have a path/),
    ]);
    expect(problems(await check({ 'registry-mirrors': [REMOTE.origin] }, REMOTE))).toEqual([
      expect.stringMatching(/expects HTTPS/),
    ]);
    expect(problems(await check('{'))).toEqual([expect.stringMatching(/not valid JSON/)]);
  });

  it('reports nothing without Docker', async () => {
    expect(await checkDocker((await node({})).files, PROXY)).toEqual([]);
  });
});

describe('doctor, registries.conf', () => {
  const check = async (text: string, proxy = PROXY): Promise<Finding[]> =>
    checkPodman((await node({ '/etc/containers/registries.conf.d/proxy.conf': text })).files, proxy);
  const entry = (location: string, more = ''): string =>
    `[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "${location}"\n${more}`;

  it('requires plain HTTP to be allowed, and the upstream to be named', async () => {
    expect(await check(entry('127.0.0.1:5000/hub', 'insecure = true'))).toMatchObject([{ status: 'ok' }]);
    expect(await check(entry('127.0.0.1:5000', 'insecure = true'))).toMatchObject([{ status: 'note' }]);
    expect(problems(await check(entry('127.0.0.1:5000/hub')))).toEqual([
      expect.stringMatching(/HTTPS is expected/),
    ]);
    expect(problems(await check('[['))).toEqual([expect.stringMatching(/not valid TOML/)]);
    expect(await check(entry('quay.io'))).toEqual([]);
  });
});
