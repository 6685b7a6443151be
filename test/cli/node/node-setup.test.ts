import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import { runProgram } from '../../helpers/programs.ts';
import { runInProcess } from '../../helpers/run-in-process.ts';
import {
  CONFIG,
  CONFIG_V2,
  CONFIG_V3,
  ECR,
  HTTP_PROXY,
  LAZY_NODE,
  nodeWith,
  problems,
  PROXY,
  setUp,
  snapshot,
  SNAPSHOTTER,
  SOCKET,
  textOf,
} from '../../helpers/clients/node-to-set-up.ts';

/** Lines of the old text that the new one lacks. */
function lost(before: string, after: string): string[] {
  const kept = new Set(after.split('\n'));
  return before.split('\n').filter((line) => !kept.has(line));
}

describe('spandrel node setup', () => {
  it.each([
    ['layout 2, TLS', CONFIG_V2, PROXY, ['docker.io', ECR]],
    ['layout 3, TLS', CONFIG_V3, PROXY, [ECR]],
    ['layout 2, plain HTTP', CONFIG_V2, HTTP_PROXY, ['docker.io', 'quay.io:8443']],
    ['layout 3, plain HTTP on the node', CONFIG_V3, 'http://127.0.0.1:5000', ['docker.io']],
    ['an empty file', '', PROXY, ['docker.io']],
    ['layout 3, no registry but the proxy', CONFIG_V3, HTTP_PROXY, []],
    ['layout 2, lines of Windows', CONFIG_V2.replaceAll('\n', '\r\n'), PROXY, ['docker.io']],
    ['layout 3, no unpacking yet', CONFIG_V3.replace(/\[\[[^]*/, 'unpack_config = []\n'), PROXY, [ECR]],
    ['layout 1, no end of the last line', '[plugins.cri]\n  sandbox_image = "pause"', PROXY, [ECR]],
  ])(
    '%s: doctor finds nothing wrong, a second run changes nothing, --undo restores all',
    async (...given) => {
      const [, config, proxy, registries] = given;
      const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: config });
      const before = await snapshot(node);
      const flags = ['--proxy', proxy, '--lazy', ...registries.flatMap((name) => ['--registry', name])];
      expect(await setUp(node, ...flags)).toMatchObject({ status: 0, stderr: '' });
      expect(await problems(node, proxy)).toEqual([]);
      const after = await snapshot(node);
      const again = await setUp(node, ...flags);
      expect(again).toMatchObject({ status: 0, stdout: 'nothing to change\n' });
      expect(await snapshot(node)).toEqual(after);
      expect(await setUp(node, '--undo')).toMatchObject({ status: 0 });
      expect(await snapshot(node)).toEqual(before);
    },
  );

  it('keeps comments, order and settings of containerd’s file', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2 });
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    const after = await textOf(node, CONFIG);
    expect(lost(CONFIG_V2, after)).toEqual(['      snapshotter = "overlayfs"  # the default']);
    expect(after).toContain('      snapshotter = "soci" # the default\n');
    const { root, plugins } = parse(after) as { root: string; plugins: Record<string, object> };
    expect([root, plugins]).toMatchObject([
      '/var/lib/containerd',
      {
        'io.containerd.grpc.v1.cri': {
          sandbox_image: 'pause:3.9',
          registry: { config_path: '/etc/containerd/certs.d' },
          containerd: {
            snapshotter: 'soci',
            disable_snapshot_annotations: false,
            runtimes: { runc: { runtime_type: 'io.containerd.runc.v2' } },
          },
        },
      },
    ]);
  });

  it('keeps the line ends of a file', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2.replaceAll('\n', '\r\n') });
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    expect(await textOf(node, CONFIG)).not.toMatch(/[^\r]\n/);
  });

  it('containerd itself reads what was written into its default file', async () => {
    const text = String(await runProgram('containerd', ['config', 'default']));
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: text });
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    const after = await textOf(node, CONFIG);
    expect(lost(text, after)).toHaveLength(3);
    const file = join(node.root, CONFIG);
    const dumped = parse(String(await runProgram('containerd', ['-c', file, 'config', 'dump'])));
    expect(dumped).toMatchObject({
      proxy_plugins: { soci: { type: 'snapshot', address: SOCKET } },
      plugins: {
        'io.containerd.grpc.v1.cri': {
          containerd: { snapshotter: 'soci', disable_snapshot_annotations: false },
          registry: { config_path: '/etc/containerd/certs.d' },
        },
      },
    });
  });

  it('without --lazy only pulls are led to the proxy', async () => {
    const node = await nodeWith({ [CONFIG]: CONFIG_V2 });
    const run = await setUp(node, '--proxy', PROXY, '--registry', 'docker.io');
    expect(run.stdout).toContain('containerd must read its files again: systemctl restart containerd');
    expect(Object.keys(await snapshot(node)).toSorted()).toEqual([
      '/etc/containerd/certs.d/docker.io/hosts.toml',
      CONFIG,
      '/var/lib/spandrel/node-setup.json',
    ]);
    expect(await textOf(node, CONFIG)).not.toContain('soci');
    expect(await textOf(node, '/etc/containerd/certs.d/docker.io/hosts.toml')).toBe(
      `server = "https://registry-1.docker.io"\n\n[host."${PROXY}"]\ncapabilities = ["pull", "resolve"]\n`,
    );
  });

  it('--dry-run shows the same changes and makes none; --json has them for programs', async () => {
    const installed = { '/usr/local/bin/soci-snapshotter-grpc': '' };
    const node = await nodeWith({ ...installed, [CONFIG]: CONFIG_V2 });
    const before = await snapshot(node);
    const flags = ['--proxy', PROXY, '--registry', ECR, '--lazy', '--json'];
    const dry = JSON.parse((await setUp(node, ...flags, '--dry-run')).stdout) as Record<string, unknown>;
    expect(await snapshot(node)).toEqual(before);
    const made = JSON.parse((await setUp(node, ...flags)).stdout) as Record<string, unknown>;
    expect({ ...dry, dryRun: false }).toEqual(made);
    expect(made['commands']).toEqual(['systemctl restart containerd', 'systemctl restart soci-snapshotter']);
    expect(made['problems']).toEqual([]);
  });

  it.each([
    ['containerd 1', CONFIG_V2],
    ['containerd 2', CONFIG_V3],
    ['containerd without a file', undefined],
  ])('prepares the image of a node with %s, and says what the node must do at boot', async (_, config) => {
    const programs = { '/usr/local/bin/soci-snapshotter-grpc': '', '/usr/local/bin/containerd': '' };
    const node = await nodeWith({ ...programs, ...(config && { [CONFIG]: config }) });
    const run = await setUp(node, '--proxy', PROXY, '--registry', ECR, '--lazy');
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(run.stdout).toMatch(/^at boot: start the soci-snapshotter before containerd, .*systemctl enable/m);
    expect(run.stdout).toMatch(/^at boot: load the kernel module fuse/m);
    expect(await textOf(node, CONFIG)).toContain('snapshotter = "soci"');
    // At boot the socket and the device are there.
    await node.add(LAZY_NODE);
    expect(await problems(node, PROXY)).toEqual([]);
    const again = await setUp(node, '--proxy', PROXY, '--registry', ECR, '--lazy');
    expect(again).toMatchObject({ status: 0, stdout: 'nothing to change\n' });
  });

  it.each([[['--lazy']], [['--dry-run']], [[]]])(
    'fails if there is no container client, with %o',
    async (flags) => {
      const node = await nodeWith({ '/etc/os-release': 'ID=debian\n' });
      const run = await setUp(node, '--proxy', PROXY, '--registry', ECR, ...flags);
      expect(run.status).toBe(1);
      expect(run.stdout).toContain('not done: no container client is installed');
      expect(Object.keys(await snapshot(node))).toEqual(['/etc/os-release']);
    },
  );

  it.each([
    ['/usr/local/bin/k3s', '/etc/rancher/k3s/registries.yaml'],
    ['/opt/rke2/bin/rke2', '/etc/rancher/rke2/registries.yaml'],
    ['/usr/bin/dockerd', '/etc/docker/daemon.json'],
    ['/usr/bin/containerd', CONFIG],
  ])('finds a client that has not started yet, by its program %s', async (program, file) => {
    const node = await nodeWith({ [program]: '' });
    const run = await setUp(node, '--proxy', PROXY, '--registry', 'docker.io');
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(await textOf(node, file)).toMatch(/registry.internal.example.com|certs.d/);
  });

  it('does not touch a file that is not UTF-8', async () => {
    const node = await nodeWith({ [CONFIG]: '' });
    const bytes = Buffer.from('version = 2 # caf\xe9\n', 'latin1');
    await writeFile(join(node.root, CONFIG), bytes);
    const run = await setUp(node, '--proxy', PROXY, '--registry', ECR);
    expect(run.status).toBe(1);
    expect(run.stdout).toContain(`not done: ${CONFIG} is not UTF-8`);
    expect(await readFile(join(node.root, CONFIG))).toEqual(bytes);
  });

  it('does not have containerd use a snapshotter that is not installed', async () => {
    const node = await nodeWith({ [CONFIG]: CONFIG_V2 });
    const run = await setUp(node, '--proxy', PROXY, '--registry', ECR, '--lazy');
    expect(run.status).toBe(1);
    const said = run.stdout.split('\n').filter((line) => line.startsWith('not done: '));
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('install it (/usr/local/bin/soci-snapshotter-grpc)');
    // No advice to write what was left out on purpose.
    expect(run.stderr).not.toContain('proxy_plugins');
    expect(await textOf(node, CONFIG)).not.toContain('soci');
  });

  it('the proxy comes before other mirrors of a registry, which stay', async () => {
    const hosts = '/etc/containerd/certs.d/docker.io/hosts.toml';
    const other = '# ours\nserver = "https://registry-1.docker.io"\n\n[host."https://mirror.gcr.io"]\n';
    const mirror = '[[resolver.host."docker.io".mirrors]]\nhost = "https://mirror.gcr.io"\n';
    const node = await nodeWith({
      ...LAZY_NODE,
      [CONFIG]: CONFIG_V3,
      [hosts]: `${other}capabilities = ["pull"]\n`,
      [SNAPSHOTTER]: mirror,
    });
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    const { host } = parse(await textOf(node, hosts)) as { host: Record<string, object> };
    expect(Object.entries(host)).toEqual([
      [PROXY, { capabilities: ['pull', 'resolve'] }],
      ['https://mirror.gcr.io', { capabilities: ['pull'] }],
    ]);
    expect(lost(other, await textOf(node, hosts))).toEqual([]);
    expect(parse(await textOf(node, SNAPSHOTTER))).toMatchObject({
      resolver: {
        host: {
          'docker.io': { mirrors: [{ host: `${PROXY}/v2/docker.io` }, { host: 'https://mirror.gcr.io' }] },
        },
      },
      content_store: { type: 'containerd' },
      background_fetch: { fetch_period_msec: 30 },
    });
  });

  it('leaves a file alone that it cannot edit with care, and says what to write', async () => {
    const inline = 'version = 2\nplugins = { "io.containerd.grpc.v1.cri" = { sandbox_image = "pause" } }\n';
    const node = await nodeWith({ [CONFIG]: inline });
    const run = await setUp(node, '--proxy', PROXY, '--registry', 'docker.io');
    expect(run.status).toBe(1);
    expect(run.stdout).toContain('set config_path = "/etc/containerd/certs.d" in [plugins.');
    expect(await textOf(node, CONFIG)).toBe(inline);
  });

  it.each([
    ['damaged TOML', { [CONFIG]: 'version = ' }, 'not valid TOML'],
    ['the old registry.mirrors', { [CONFIG]: oldMirrors() }, 'registry.mirrors (docker.io)'],
    ['damaged JSON', { '/etc/docker/daemon.json': '{' }, 'not valid JSON'],
    ['YAML that is a list', { '/etc/rancher/k3s/registries.yaml': '- a\n' }, 'not a YAML mapping'],
    [
      'an entry of podman in another file',
      { '/etc/containers/registries.conf': '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n' },
      `location = "registry.internal.example.com/docker.io"`,
    ],
  ])('says what it leaves alone: %s', async (_, texts, words) => {
    const node = await nodeWith(texts);
    const run = await setUp(node, '--proxy', PROXY, '--registry', 'docker.io');
    expect(run.status).toBe(1);
    expect(run.stdout).toContain(words);
    for (const [path, text] of Object.entries(texts)) expect(await textOf(node, path)).toBe(text);
  });

  it('k3s: registries.yaml keeps its comments, and the proxy is the first endpoint', async () => {
    const path = '/etc/rancher/k3s/registries.yaml';
    const text = '# of the team\nmirrors:\n  docker.io: # hub\n    endpoint: ["https://mirror.gcr.io"]\n';
    const node = await nodeWith({ [path]: text });
    const flags = ['--proxy', HTTP_PROXY, '--registry', 'docker.io', '--registry', ECR];
    expect((await setUp(node, ...flags)).stdout).toContain("systemctl restart 'k3s*'");
    const after = await textOf(node, path);
    expect(after).toMatch(/^# of the team\n.*# hub\n.*endpoint: \[ /s);
    expect(parseYaml(after)).toEqual({
      mirrors: {
        'docker.io': { endpoint: [HTTP_PROXY, 'https://mirror.gcr.io'] },
        [ECR]: { endpoint: [HTTP_PROXY] },
        'proxy.internal:5000': { endpoint: [HTTP_PROXY] },
      },
    });
    expect((await setUp(node, ...flags)).stdout).toBe('nothing to change\n');
  });

  it('Docker: daemon.json keeps its keys and indentation', async () => {
    const path = '/etc/docker/daemon.json';
    const text = '{\n    "log-driver": "local",\n    "registry-mirrors": ["https://mirror.gcr.io"]\n}\n';
    const node = await nodeWith({ [path]: text });
    await setUp(node, '--proxy', HTTP_PROXY, '--registry', 'docker.io');
    const after = await textOf(node, path);
    expect(Object.entries(JSON.parse(after) as object)).toEqual([
      ['log-driver', 'local'],
      ['registry-mirrors', [HTTP_PROXY, 'https://mirror.gcr.io']],
      ['insecure-registries', ['proxy.internal:5000']],
    ]);
    expect(after).toMatch(/^\{\n {4}"log-driver"/);
  });

  it('podman: has a file of its own, which another run with other registries replaces', async () => {
    const path = '/etc/containers/registries.conf.d/spandrel.conf';
    const node = await nodeWith({ '/etc/containers/policy.json': '{}', '/etc/crio/crio.conf': '' });
    const run = await setUp(node, '--proxy', HTTP_PROXY, '--registry', 'docker.io');
    expect(run.stdout).toContain('systemctl reload crio');
    await setUp(node, '--proxy', HTTP_PROXY, '--registry', 'quay.io');
    expect(parse(await textOf(node, path))).toEqual({
      registry: [
        {
          prefix: 'quay.io',
          location: 'quay.io',
          mirror: [{ location: 'proxy.internal:5000/quay.io', insecure: true }],
        },
        { prefix: 'proxy.internal:5000', location: 'proxy.internal:5000', insecure: true },
      ],
    });
    await setUp(node, '--undo');
    expect(Object.keys(await snapshot(node)).toSorted()).toEqual([
      '/etc/containers/policy.json',
      '/etc/crio/crio.conf',
    ]);
  });

  it('writes only hosts.toml where only its folder is mounted', async () => {
    const node = await nodeWith({ '/etc/containerd/certs.d/.keep': '' });
    await setUp(node, '--proxy', PROXY, '--registry', ECR);
    expect(Object.keys(await snapshot(node)).toSorted()).toEqual([
      '/etc/containerd/certs.d/.keep',
      `/etc/containerd/certs.d/${ECR}/hosts.toml`,
      '/var/lib/spandrel/node-setup.json',
    ]);
  });
});

describe('node setup --lazy', () => {
  it('says that it cannot set up a containerd of which it sees only the folder', async () => {
    const node = await nodeWith({ '/etc/containerd/certs.d/.keep': '' });
    const run = await setUp(node, '--proxy', PROXY, '--registry', ECR, '--lazy');
    expect(run.status).toBe(1);
    expect(run.stdout).toContain('not done: lazy pulls: there is no /etc/containerd/config.toml');
  });
});

describe('the command line of node setup', () => {
  it.each([
    [['setup'], '--proxy'],
    [['set', '--proxy', PROXY], 'node setup'],
    [['setup', '--proxy', `${PROXY}/v2`], '--proxy'],
    [['setup', '--proxy', PROXY, '--registry', 'https://docker.io'], '--registry'],
    [['setup', '--proxy', PROXY, '--root', '/tmp', '--restart'], 'exclude each other'],
  ])('refuses %o', async (args, words) => {
    const run = await runInProcess('node', ...args);
    expect(run.status).toBe(2);
    expect(run.stderr).toContain(words);
  });
});

function oldMirrors(): string {
  const cri = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]';
  return `version = 2\n${cri}\nendpoint = ["https://mirror.gcr.io"]\n`;
}
