import { readFile } from 'node:fs/promises';

import { beforeAll, describe, expect, it } from 'vitest';

import { RedisCache } from '../../src/cache/redis-cache.ts';
import { Secret } from '../../src/core/secret.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { CertificateAuthority, type CertificateFiles } from '../helpers/upstreams/certificates.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';

const USER = { name: 'spandrel', password: makeSecret('password of Redis', 'p@ss:word/%') };

let authority: CertificateAuthority;
let tls: CertificateFiles;

beforeAll(async () => {
  authority = cleanup.use(await CertificateAuthority.create('own'));
  tls = await authority.issue('redis');
});

/** Whether a value comes back that is written with this URL. */
async function works(url: string, options: { ca?: string; cluster?: boolean } = {}): Promise<boolean> {
  await using cache = new RedisCache({
    url: new Secret(url),
    ca: options.ca,
    cluster: options.cluster ?? false,
    ttlSeconds: 60,
    events: new Events(collectingLogger()),
  });
  await cache.connected();
  await cache.set('key', Buffer.from('value'));
  return (await cache.get('key')) !== undefined;
}

describe.each([false, true])('a Redis with TLS, a private authority and users (cluster: %s)', (cluster) => {
  it('accepts the authority and the user of its URL, and no others', async () => {
    await using server = await RedisServer.start({ tls, user: USER, isCluster: cluster });
    const ca = await readFile(authority.cert, 'utf8');
    expect(await works(server.url, { ca, cluster })).toBe(true);
    expect(await works(server.url, { cluster })).toBe(false);
    expect(await works(server.url.replace(USER.name, 'somebody'), { ca, cluster })).toBe(false);
    expect(await works(server.url.replace('rediss:', 'redis:'), { cluster })).toBe(false);
  });
});

it('the path of the URL selects a database of Redis', async () => {
  await using server = await RedisServer.start();
  expect(await works(`${server.url}/3`)).toBe(true);
  expect(await server.command('info keyspace')).toMatch(/^db3:keys=1/m);
});

it('each cause of a lost Redis is logged once: one that was away may refuse the password now', async () => {
  await using server = await RedisServer.start({ user: USER });
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger('warn', {
    write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
  });
  const causes = (): string[] => lines.map(({ cause }) => String(cause));
  await server.stop();
  const url = new URL(server.url);
  url.password = 'changed';
  await using cache = new RedisCache({
    url: new Secret(url.href),
    cluster: false,
    ttlSeconds: 60,
    events: new Events(logger),
  });
  await cache.connected();
  expect(causes()).toEqual([expect.stringContaining('ECONNREFUSED')]);
  expect(cache.fault).toBe('ECONNREFUSED');
  await server.resume();
  await expect.poll(() => cache.fault, { timeout: 20_000 }).toBe('WRONGPASS');
  const refused = causes().filter((cause) => cause.startsWith('WRONGPASS'));
  expect(refused).toHaveLength(1);
  expect(new Set(causes()).size).toBe(causes().length);
});
