import { chmod, mkdir, readdir, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { Finding } from '../../../src/cli/doctor/finding.ts';
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
  textOf,
} from '../../helpers/clients/node-to-set-up.ts';

describe('spandrel node setup --undo', () => {
  it('leaves a file alone that somebody has changed since, and keeps what it was', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2 });
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    const written = await textOf(node, CONFIG);
    await writeFile(join(node.root, CONFIG), `${written}# changed\n`);
    const run = await setUp(node, '--undo');
    expect(run.status).toBe(1);
    expect(run.stdout).toContain(`${CONFIG} was changed since`);
    expect(await textOf(node, CONFIG)).toBe(`${written}# changed\n`);
    await writeFile(join(node.root, CONFIG), written);
    expect(await setUp(node, '--undo')).toMatchObject({ status: 0 });
    expect(await textOf(node, CONFIG)).toBe(CONFIG_V2);
  });

  it('restores the first state after several runs, and modes stay', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V3 });
    await chmod(join(node.root, CONFIG), 0o600);
    const before = await snapshot(node);
    for (const registry of ['docker.io', ECR]) await setUp(node, '--proxy', PROXY, '--registry', registry);
    await setUp(node, '--proxy', HTTP_PROXY, '--registry', ECR, '--lazy');
    expect((await stat(join(node.root, CONFIG))).mode & 0o777).toBe(0o600);
    await setUp(node, '--undo');
    expect(await snapshot(node)).toEqual(before);
  });

  it.each(['/opt/containerd.toml', '../../opt/containerd.toml'])(
    'a symbolic link to %s stays one: the file that it leads to is changed, and restored',
    async (target) => {
      const node = await nodeWith({ ...LAZY_NODE, '/opt/containerd.toml': CONFIG_V2, [`${CONFIG}.old`]: '' });
      await symlink(target, join(node.root, CONFIG));
      await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
      expect(await readlink(join(node.root, CONFIG))).toBe(target);
      expect(await textOf(node, '/opt/containerd.toml')).toContain('snapshotter = "soci"');
      await setUp(node, '--undo');
      expect(await textOf(node, '/opt/containerd.toml')).toBe(CONFIG_V2);
    },
  );

  it('a run with other flags replaces what the one before wrote', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2 });
    const before = await snapshot(node);
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--lazy');
    const other = ['--proxy', HTTP_PROXY, '--registry', ECR];
    const run = await setUp(node, ...other);
    expect(run.stdout).toContain(`+++ /dev/null\n@@ -1,4 +1,0 @@\n-server = "https://registry-1.docker.io"`);
    expect(run.stdout).toContain('systemctl restart soci-snapshotter');
    const fresh = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2 });
    await setUp(fresh, ...other);
    const { '/var/lib/spandrel/node-setup.json': _saved, ...files } = await snapshot(node);
    expect(await snapshot(fresh)).toMatchObject(files);
    const undone = await setUp(node, '--undo');
    expect(undone.stdout).toContain('systemctl restart containerd');
    expect(await snapshot(node)).toEqual(before);
  });

  it('removes the folders that it has made, and no others', async () => {
    const own = ['/etc/docker/certs.d', '/etc/containers/registries.conf.d', '/etc/containerd'];
    const node = await nodeWith({ [CONFIG]: CONFIG_V2, '/usr/bin/dockerd': '' });
    for (const folder of own) await mkdir(join(node.root, folder), { recursive: true });
    const folders = async (): Promise<string[]> => (await readdir(node.root, { recursive: true })).toSorted();
    const before = await folders();
    await setUp(node, '--proxy', PROXY, '--registry', 'docker.io', '--registry', ECR, '--lazy');
    await setUp(node, '--proxy', HTTP_PROXY, '--registry', ECR);
    expect(await folders()).toContain(`etc/containerd/certs.d/${ECR}/hosts.toml`);
    // A later run has taken these back.
    for (const gone of ['etc/containerd/certs.d/docker.io', 'etc/soci-snapshotter-grpc'])
      expect(await folders()).not.toContain(gone);
    await setUp(node, '--undo');
    expect(await folders()).toEqual(before);
  });

  it('keeps a folder in which somebody else has put a file', async () => {
    const node = await nodeWith({ [CONFIG]: CONFIG_V2 });
    await setUp(node, '--proxy', PROXY, '--registry', ECR);
    const other = '/etc/containerd/certs.d/quay.io/hosts.toml';
    await node.add({ [other]: '' });
    expect(await setUp(node, '--undo')).toMatchObject({ status: 0 });
    expect(Object.keys(await snapshot(node)).toSorted()).toEqual([other, CONFIG].toSorted());
    expect(await readdir(join(node.root, '/etc/containerd/certs.d'))).toEqual(['quay.io']);
  });

  it('says that there is nothing to undo', async () => {
    const run = await setUp(await nodeWith({}), '--undo');
    expect(run).toMatchObject({ status: 0, stdout: 'nothing to undo\n' });
  });
});

describe('spandrel doctor --fix', () => {
  it('sets the node up, and then finds its files right', async () => {
    const node = await nodeWith({ ...LAZY_NODE, [CONFIG]: CONFIG_V2 });
    const proxy = 'http://127.0.0.1:9';
    const flags = ['--root', node.root, '--proxy', proxy, '--json'];
    const fix = async (...more: string[]): Promise<{ findings: Finding[]; fixed?: { files: object[] } }> =>
      JSON.parse((await runInProcess('doctor', ...flags, ...more)).stdout) as never;
    const areas = ({ findings }: { findings: Finding[] }): string[] =>
      findings.filter(({ status }) => status === 'problem').map(({ area }) => area);
    expect(areas(await fix())).toContain('containerd');
    const fixed = await fix('--fix', '--registry', 'docker.io');
    // No proxy runs.
    expect(new Set(areas(fixed))).toEqual(new Set(['proxy']));
    expect(fixed.fixed?.files).toHaveLength(4);
    // The registry of hosts.toml is known then.
    expect((await fix('--fix')).fixed?.files).toEqual([]);
    expect(await problems(node, proxy)).toEqual([]);
  });
});
