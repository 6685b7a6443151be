import { readFile, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { join, resolve } from 'node:path';

import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { Finding } from '../../src/cli/doctor/finding.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { FailingFiles } from '../helpers/faults/failing-files.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';
import { runInProcess } from '../helpers/run-in-process.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const REGISTRY = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
/** Without a proxy, the files of the node are judged all the same. */
const PROXY = 'https://registry.invalid';
const HOSTS = `/etc/containerd/certs.d/${REGISTRY}/hosts.toml`;
const CONTAINERD = '/etc/containerd/config.toml';

let tree: NodeTree;

beforeEach(async () => {
  const containerd = await readFile(join(ROOT, 'config/examples/containerd-config-v3.toml'), 'utf8');
  tree = cleanup.use(
    await NodeTree.create({
      '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock': '',
      '/dev/fuse': '',
      [CONTAINERD]: containerd,
      [HOSTS]: `server = "https://${REGISTRY}"\n[host."${PROXY}"]\ncapabilities = ["pull", "resolve"]\n`,
      '/etc/soci-snapshotter-grpc/config.toml': `[content_store]\ntype = "containerd"\n[[resolver.host."${REGISTRY}".mirrors]]\nhost = "${PROXY}/v2/ecr"\n`,
    }),
  );
});

async function change(path: string, from: string, to: string): Promise<void> {
  const text = await readFile(join(tree.root, path), 'utf8');
  expect(text).toContain(from);
  await writeFile(join(tree.root, path), text.replaceAll(from, to));
}

async function doctor(): Promise<{ status: number; problems: Finding[] }> {
  // No name is looked up: the proxy is away.
  using _fetch = vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed'));
  const { status, stdout } = await runInProcess('doctor', '--json', '--proxy', PROXY, '--root', tree.root);
  const { findings } = JSON.parse(stdout) as { findings: Finding[] };
  const problems = findings.filter((found) => found.status === 'problem' && found.area !== 'proxy');
  return { status, problems };
}

describe('doctor on a node whose snapshotter and containerd disagree', () => {
  const disagreement = `the snapshotter has a mirror for ${REGISTRY}, but containerd does not ask the proxy for it`;

  it('finds nothing wrong if they agree', async () => {
    expect((await doctor()).problems).toEqual([]);
  });

  it.each([
    ['another port in hosts.toml', HOSTS, `"${PROXY}"`, `"${PROXY}:5001"`, `${HOSTS} does not name ${PROXY}`],
    ['no such host in hosts.toml', HOSTS, '[host.', '[header.', `${HOSTS} does not name ${PROXY}`],
    [
      'a config_path of another folder',
      CONTAINERD,
      '/etc/containerd/certs.d',
      '/etc/containerd/cert.d',
      `it does not read ${HOSTS}`,
    ],
  ])('reports %s, with what to write', async (_what, path, from, to, next) => {
    await change(path, from, to);
    const { problems } = await doctor();
    expect(problems).toEqual([
      expect.objectContaining({
        area: 'mirrors',
        message: expect.stringContaining(disagreement),
        next: expect.stringContaining(next),
        registry: REGISTRY,
      }),
    ]);
  });

  it('reports a missing hosts.toml with the file to write', async () => {
    await rename(join(tree.root, HOSTS), join(tree.root, `${HOSTS}.away`));
    const { problems } = await doctor();
    expect(problems.map(({ next }) => next)).toEqual([
      `write ${HOSTS} with server = "https://${REGISTRY}" and [host."${PROXY}"]`,
    ]);
  });

  it('takes _default for every registry without a file of its own', async () => {
    const folder = join(tree.root, '/etc/containerd/certs.d');
    await change(HOSTS, `server = "https://${REGISTRY}"\n`, '');
    await rename(join(folder, REGISTRY), join(folder, '_default'));
    expect((await doctor()).problems).toEqual([]);
  });

  it('says once what is wrong with a file that has a problem of its own', async () => {
    await change(HOSTS, '[host.', '[hosts.');
    expect((await doctor()).problems.map(({ message }) => message)).toEqual([
      expect.stringContaining('does not know hosts'),
    ]);
  });
});

describe('doctor without permission', () => {
  it.each(['readFile', 'stat'] as const)('judges nothing that it cannot read (%s)', async (operation) => {
    using _files = await FailingFiles.create({ folder: tree.root, operations: [operation], code: 'EACCES' });
    const { status, problems } = await doctor();
    expect(problems).toEqual([
      expect.objectContaining({
        area: 'node',
        code: 'EACCES',
        message: expect.stringMatching(/^no permission to read \/\S+/),
        next: expect.stringContaining('as root'),
      }),
    ]);
    expect(status).not.toBe(0);
  });
});

describe('commands that cannot reach the proxy', () => {
  it.each([
    ['ls', 'demo/app:latest'],
    ['cat', 'demo/app:latest', '/etc/passwd'],
    ['stat', 'demo/app:latest', '/etc/passwd'],
    ['warm', 'demo/app:latest'],
  ])(
    '%s names the cause, here a certificate that is not trusted, and what to do',
    async (command, ...args) => {
      const { server } = cleanup.use(await createCertificates());
      const [cert, key] = await Promise.all([readFile(server.cert), readFile(server.key)]);
      const listener = createServer({ cert, key }, (_request, response) => response.end());
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
      cleanup.defer(() => void listener.close());
      const address = listener.address();
      const port = typeof address === 'object' ? address?.port : undefined;
      const flag = command === 'warm' ? '--admin' : '--proxy';
      const run = await runInProcess(command, ...args, flag, `https://localhost:${port}`);
      expect([run.status, run.stderr]).toEqual([
        4,
        expect.stringMatching(/UNABLE_TO_VERIFY_LEAF_SIGNATURE\): .*NODE_EXTRA_CA_CERTS=FILE/s),
      ]);
    },
  );
});
