import { once } from 'node:events';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';

import { hash } from 'bcrypt';
import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { basic } from '../helpers/upstreams/private-registry.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder, 'spandrel.yaml');
});

/** A configuration of which all is fixed but `more`. */
async function configure(more: object): Promise<void> {
  const fixed = {
    listen: { port: 0 },
    admin: { port: 0 },
    storage: { root: join(folder, 'data') },
    upstreams: [{ name: 'gone', url: 'http://127.0.0.1:9', default: true }],
  };
  const merged: Record<string, object> = { ...fixed };
  for (const [key, value] of Object.entries(more)) merged[key] = { ...merged[key], ...(value as object) };
  await writeFile(`${file}.new`, JSON.stringify(merged));
  await rename(`${file}.new`, file);
}

async function start(environment: Record<string, string> = {}): Promise<SpandrelProcess> {
  return cleanup.use(new SpandrelProcess(['serve', '--config', file], environment));
}

async function logged(child: SpandrelProcess, text: string, count = 1): Promise<string> {
  await expect
    .poll(() => child.stdout.split(text).length - 1, { timeout: 15_000 })
    .toBeGreaterThanOrEqual(count);
  return child.stdout.split('\n').findLast((line) => line.includes(text)) ?? '';
}

async function statusOf(url: string, authorization?: string): Promise<number> {
  return (await fetch(url, authorization === undefined ? {} : { headers: { authorization } })).status;
}

describe('a running proxy', () => {
  it('applies a changed configuration on SIGHUP, and says what needs a restart', async () => {
    await configure({});
    const child = await start();
    const { url, adminUrl } = await child.listening();
    expect(await statusOf(`${url}/v2/`)).toBe(200);
    const token = makeSecret('admin token');
    await configure({
      access: { cidrs: ['10.0.0.0/8'] },
      admin: { token },
      cache: { memoryBytes: '64MiB' },
    });
    child.kill('SIGHUP');
    expect(await logged(child, 'need a restart')).toContain('"keys":["cache.memoryBytes"]');
    expect(await statusOf(`${url}/v2/`)).toBe(403);
    expect(await statusOf(`${adminUrl}/api/v1/blobs`)).toBe(401);
    expect(await statusOf(`${adminUrl}/api/v1/blobs`, `Bearer ${token}`)).toBe(200);
    expect(child.stdout + child.stderr).not.toContain(token);
  });

  it('names what needs a restart at each reload, in /readyz and in metrics, until it is undone', async () => {
    await configure({ log: { level: 'info' } });
    const child = await start();
    const { adminUrl } = await child.listening();
    const state = async (): Promise<unknown> => {
      const { warnings } = (await (await fetch(`${adminUrl}/readyz`)).json()) as { warnings: string[] };
      const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
      const [current, refused, needed] = ['current', 'refused', 'restart_needed'].map(
        (name) => new RegExp(`^spandrel_config_${name} (\\d+)$`, 'm').exec(metrics)?.[1],
      );
      return { warnings: warnings.filter((text) => text.includes('restart')), current, refused, needed };
    };
    const reloads = (): Record<string, unknown>[] =>
      child.log.filter(({ msg }) => msg === 'configuration reloaded');
    const reloaded = (): number => reloads().length;
    const [memory, bytes] = ['cache.memoryBytes', 'storage.maxBytes'];
    const warning = (key: string): string => `${key}: changed in the files, in use only after a restart`;
    expect(await state()).toEqual({ warnings: [], current: '1', refused: '0', needed: '0' });

    await configure({ cache: { memoryBytes: '64MiB' } });
    child.kill('SIGHUP');
    const one = { current: '0', refused: '0', needed: '1', warnings: [warning(memory)] };
    await expect.poll(state).toEqual(one);
    // Another change that applies at once, and one that does not.
    await configure({ cache: { memoryBytes: '64MiB' }, log: { level: 'debug' } });
    const before = reloaded();
    child.kill('SIGHUP');
    await expect.poll(reloaded).toBeGreaterThan(before);
    expect(await state()).toEqual(one);
    await configure({ cache: { memoryBytes: '64MiB' }, storage: { maxBytes: '9GiB' } });
    child.kill('SIGHUP');
    const warnings = [warning(bytes), warning(memory)];
    await expect
      .poll(state)
      .toEqual({ ...one, needed: '2', warnings: expect.arrayContaining(warnings) as unknown });
    await configure({ cache: { memoryBytes: 'much' } });
    child.kill('SIGHUP');
    await expect.poll(state).toMatchObject({ current: '0', refused: '1', needed: '2' });

    await configure({ log: { level: 'info' } });
    child.kill('SIGHUP');
    await expect.poll(state).toEqual({ warnings: [], current: '1', refused: '0', needed: '0' });
    const named = reloads().map(({ needRestart = [] }) => needRestart as string[]);
    expect(named.filter((keys) => keys.includes(memory)).length).toBeGreaterThanOrEqual(3);
    expect(named.at(-1)).toEqual([]);
  });

  it('refuses an invalid configuration with all its problems, and keeps the old one', async () => {
    await configure({});
    const child = await start();
    const { url } = await child.listening();
    await configure({ access: { cidrs: ['nowhere'] }, limits: { requestsPerSecond: 'many', noSuch: 1 } });
    child.kill('SIGHUP');
    const line = await logged(child, 'the old one stays in use');
    for (const problem of ['access.cidrs', 'limits.requestsPerSecond', 'limits.noSuch'])
      expect(line).toContain(problem);
    expect(await statusOf(`${url}/v2/`)).toBe(200);
  });

  it('reads its configuration again only after a change, with and without a file', async () => {
    const environment = {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: join(folder, 'data'),
      SPANDREL_UPSTREAMS: '[{"name":"gone","url":"http://127.0.0.1:9","default":true}]',
    };
    const child = cleanup.use(new SpandrelProcess(['serve'], environment, folder));
    await child.listening();
    for (const times of [1, 2]) {
      child.kill('SIGHUP');
      await logged(child, 'configuration reloaded', times);
    }
    child.kill('SIGTERM');
    expect(await child.exitStatus()).toBe(0);
    expect(child.stdout.split('configuration reloaded')).toHaveLength(3);
  });

  it('notices a change of its htpasswd file', async () => {
    const [one, two] = [makeSecret('first password'), makeSecret('second password')];
    const htpasswd = join(folder, 'htpasswd');
    await writeFile(htpasswd, `alice:${await hash(one, 4)}\n`);
    await configure({ access: { kind: 'htpasswd', htpasswdFile: htpasswd } });
    const child = await start();
    const { url } = await child.listening();
    expect(await statusOf(`${url}/v2/`, basic('alice', one))).toBe(200);
    await writeFile(htpasswd, `alice:${await hash(two, 4)}\n`);
    await logged(child, 'configuration reloaded');
    expect(await statusOf(`${url}/v2/`, basic('alice', one))).toBe(401);
    expect(await statusOf(`${url}/v2/`, basic('alice', two))).toBe(200);
  });

  it('shows a new certificate to new connections, and keeps the old ones open', async () => {
    const certificates = cleanup.use(await createCertificates());
    const { cert, key } = certificates.server;
    await configure({ listen: { tls: { cert, key } } });
    const child = await start();
    const { port } = new URL((await child.listening()).url);
    const open = async (): Promise<TLSSocket> => {
      const socket = connect({ host: '127.0.0.1', port: Number(port), ca: certificates.ca });
      cleanup.defer(() => void socket.destroy());
      await once(socket, 'secureConnect');
      return socket;
    };
    const old = await open();
    const before = old.getPeerCertificate().fingerprint256;
    await certificates.renewServer();
    await expect
      .poll(async () => (await open()).getPeerCertificate().fingerprint256, { timeout: 15_000 })
      .not.toBe(before);
    old.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(String((await once(old, 'data'))[0])).toMatch(/^HTTP\/1\.1 200/);
    expect(await readFile(cert, 'utf8')).toContain('CERTIFICATE');
  });

  it('warns of files with secrets that every user can read', async () => {
    const htpasswd = join(folder, 'htpasswd');
    await writeFile(htpasswd, `alice:${await hash('one', 4)}\n`, { mode: 0o644 });
    await configure({ access: { kind: 'htpasswd', htpasswdFile: htpasswd } });
    const child = await start();
    await child.listening();
    expect(await logged(child, 'every user of this machine')).toContain(htpasswd);
  });

  it('is not ready while its store cannot be written', async () => {
    await configure({});
    const child = await start();
    const { adminUrl } = await child.listening();
    expect(await (await fetch(`${adminUrl}/readyz`)).json()).toMatchObject({
      status: 'ready',
      checks: { store: true },
    });
    await rm(join(folder, 'data'), { recursive: true });
    const failing = await fetch(`${adminUrl}/readyz`);
    expect([failing.status, await failing.json()]).toMatchObject([
      503,
      { status: 'failing', checks: { store: false } },
    ]);
  });

  it('ends with one line and status 70 on a defect, and starts again after it', async () => {
    await configure({});
    const provoke = "process.on('SIGUSR2',()=>{throw new Error('provoked')})";
    const child = await start({
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(provoke)}`,
    });
    await child.listening();
    child.kill('SIGUSR2');
    expect(await child.exitStatus()).toBe(70);
    const lines = child.stdout.trim().split('\n');
    expect(
      lines.filter((line) => line.includes('"fatal"')).map((line) => JSON.parse(line) as object),
    ).toMatchObject([{ level: 'fatal', err: { message: 'provoked' } }]);
    const again = await start();
    expect(await statusOf(`${(await again.listening()).url}/v2/`)).toBe(200);
  });
});
