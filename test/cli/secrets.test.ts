import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { findSecrets, type KnownSecret } from '../helpers/find-secrets.ts';
import { basic } from '../helpers/upstreams/private-registry.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ROUTE_SAMPLES } from '../helpers/clients/route-samples.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SECRETS = {
  upstream: makeSecret('password of the upstream', 'p@ss:word/'),
  redis: makeSecret('password of Redis', 'p@ss:word/'),
  admin: makeSecret('admin token'),
  alice: makeSecret('password of a client', 'pässe:'),
  signature: makeSecret('signature of a URL'),
};
const ALL: KnownSecret[] = Object.entries(SECRETS).map(([name, value]) => ({ name, value }));

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
});

/**
 * An upstream that echoes requests wherever it can, and redirects blobs to a signed URL that nothing serves.
 */
function startIndiscreet(): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start(({ url, headers }, response) => {
    const { authorization } = headers;
    if (authorization === undefined)
      return void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    if (url === '/v2/') return void response.end('{}');
    if (url.includes('/blobs/')) {
      const location = `http://127.0.0.1:9/blob?X-Amz-Signature=${SECRETS.signature}`;
      return void response.writeHead(307, { location }).end();
    }
    const errors = [{ code: 'DENIED', message: `not with ${authorization}`, detail: { authorization } }];
    response.statusMessage = `not with ${authorization}`;
    response.setHeader('www-authenticate', `Basic realm="${authorization}"`);
    response.writeHead(url.includes('tags') ? 500 : 403, { 'x-echo': authorization });
    response.end(JSON.stringify({ errors }));
  });
}

/** A proxy with a secret in every place that takes one. */
async function start(more: Record<string, string> = {}): Promise<SpandrelProcess> {
  const upstream = cleanup.use(await startIndiscreet());
  const redis = cleanup.use(await RedisServer.start({ user: { name: 'spandrel', password: SECRETS.redis } }));
  const htpasswd = join(folder, 'htpasswd');
  await writeFile(htpasswd, `alice:${await hash(SECRETS.alice, 4)}\n`, { mode: 0o600 });
  const auth = { kind: 'basic', username: 'me', password: SECRETS.upstream };
  const environment = {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: join(folder, 'data'),
    SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url, auth, default: true }]),
    SPANDREL_UPSTREAM_RETRIES: '0',
    SPANDREL_CACHE_REDIS_URL: redis.url,
    SPANDREL_ACCESS_KIND: 'htpasswd',
    SPANDREL_ACCESS_HTPASSWD_FILE: htpasswd,
    SPANDREL_ADMIN_TOKEN: SECRETS.admin,
    SPANDREL_LOG_LEVEL: 'trace',
  };
  return cleanup.use(new SpandrelProcess(['serve'], { ...environment, ...more }, folder));
}

/** All of a response. */
async function ask(url: string, init: RequestInit): Promise<string> {
  const response = await fetch(url, init);
  const { status, statusText } = response;
  return JSON.stringify([status, statusText, ...response.headers, await response.text()]);
}

describe('no secret is shown', () => {
  it('by responses, metrics, the API, logs or the arguments of the process', async () => {
    const child = await start();
    const { url, adminUrl } = await child.listening();
    const headers = { authorization: basic('alice', SECRETS.alice) };
    const told: string[] = [];
    for (const path of Object.values(ROUTE_SAMPLES))
      told.push(await ask(`${url}/v2/app/${path}?token=${SECRETS.signature}`, { headers }));
    expect(told.every((answer) => /^\[(4|5)\d\d,/.test(answer))).toBe(true);
    expect(told.join('\n')).toContain('DENIED');
    // Where it does not belong.
    for (const wrong of [
      `Bearer ${SECRETS.alice.replace('ä', 'a')}`,
      'Basic x',
      basic('alice', SECRETS.admin),
    ])
      told.push(await ask(`${url}/v2/`, { headers: { authorization: wrong } }));
    const admin = { authorization: `Bearer ${SECRETS.admin}` };
    const body = JSON.stringify({ image: 'demo/app:1.0' });
    const warmed = await ask(`${adminUrl}/api/v1/warm`, {
      method: 'POST',
      headers: { ...admin, 'content-type': 'application/json' },
      body,
    });
    const [, id = ''] = /"id\\":\\"([^\\]+)/.exec(warmed) ?? [];
    await expect
      .poll(() => ask(`${adminUrl}/api/v1/jobs/${id}`, { headers: admin }))
      .not.toContain('running');
    for (const path of ['jobs', `jobs/${id}`, 'images', 'blobs', 'no-such'])
      told.push(await ask(`${adminUrl}/api/v1/${path}`, { headers: admin }));
    for (const path of ['metrics', 'healthz', 'readyz'])
      told.push(await ask(`${adminUrl}/${path}`, { headers: admin }));
    told.push(warmed, await readFile(`/proc/${child.pid ?? 0}/cmdline`, 'utf8'));
    child.kill('SIGTERM');
    expect(await child.exitStatus()).toBe(0);
    expect(child.stdout.split('\n').length).toBeGreaterThan(told.length / 2);
    expect(findSecrets([...told, child.stdout, child.stderr].join('\n'), ALL)).toEqual([]);
  });

  it('by a defect whose error carries a request, a command or a configuration', async () => {
    const carried = `{headers:{authorization:'${SECRETS.admin}'},command:{name:'auth',args:['${SECRETS.redis}']},options:{request:{headers:{cookie:'${SECRETS.alice}'}}}}`;
    // A file, not a data: URL, which would be in the stack.
    const provoke = join(folder, 'provoke.mjs');
    const text = `const carry = (error) => Object.assign(error, ${carried});
      process.on('SIGUSR2', () => { throw carry(new Error('provoked', { cause: carry(new Error('below')) })); });`;
    await writeFile(provoke, text);
    const child = await start({ NODE_OPTIONS: `--import=${provoke}` });
    await child.listening();
    child.kill('SIGUSR2');
    expect(await child.exitStatus()).toBe(70);
    expect(child.stdout).toMatch(/"fatal".*provoked.*below/);
    expect(findSecrets(child.stdout + child.stderr, ALL)).toEqual([]);
  });

  it('by a diagnostic report of Node, which is written only on request', async () => {
    const child = await start({ NODE_OPTIONS: '--report-on-signal --report-signal=SIGUSR2' });
    await child.listening();
    const reports = async (): Promise<string[]> =>
      (await readdir(folder)).filter((name) => name.startsWith('report.'));
    expect(await reports()).toEqual([]);
    child.kill('SIGUSR2');
    let text = '';
    // It is written piece by piece.
    const read = async (): Promise<unknown> => {
      text = await readFile(join(folder, (await reports())[0] ?? ''), 'utf8');
      return JSON.parse(text);
    };
    await expect
      .poll(() => read().catch(() => undefined), { timeout: 15_000 })
      .toMatchObject({ header: { commandLine: expect.any(Array) as string[] } });
    expect(findSecrets(text, ALL)).toEqual([]);
    const { reportOnFatalError, reportOnUncaughtException, reportOnSignal } = process.report;
    expect([reportOnFatalError, reportOnUncaughtException, reportOnSignal]).toEqual([false, false, false]);
  });
});
