import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { checkConfig } from '../../src/cli/doctor/config/check-config.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { RedisCluster } from '../helpers/upstreams/redis-cluster.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const PASSWORD = makeSecret('password of a user of Redis');
let redis: RedisServer;

/** Of the user that docs/scaling.md creates. */
let rights: string;

beforeAll(async () => {
  rights = /~spandrel:\*.*/.exec(await readFile('docs/scaling.md', 'utf8'))?.[0] ?? '';
  redis = cleanup.use(await RedisServer.start());
  await redis.command('CONFIG SET maxmemory 100mb');
  await redis.command('CONFIG SET maxmemory-policy allkeys-lru');
});

/** A user of Redis with these rights, and the URL with which it logs in. */
async function urlOfUser(name: string, rights: string): Promise<string> {
  const reply = await redis.command(`ACL SETUSER ${name} reset on >${PASSWORD} ${rights}`);
  expect(reply).toContain('OK');
  return `redis://${name}:${PASSWORD}@127.0.0.1:${redis.port}`;
}

/** Findings about Redis: `status message -> next step`. */
async function check(url: string, cluster = false): Promise<string[]> {
  const storage = { root: await temporaryFolder() };
  const yaml = JSON.stringify({ storage, cache: { redis: { url, cluster } } });
  const findings = await checkConfig(parseConfig({ yaml, environment: {} }), (path) => readFile(path));
  const lines = findings.map(({ status, message, next = '' }) => `${status} ${message} -> ${next}`);
  return lines.filter((line) => line.includes('Redis'));
}

describe('doctor --config, Redis', () => {
  it('is content with a user that has the rights of the documentation, and no more', async () => {
    expect(rights).toMatch(/^~spandrel:\* \+/);
    expect(await check(await urlOfUser('documented', rights))).toEqual([
      expect.stringMatching(/^ok Redis at /),
    ]);
  });

  it('lists every command of the scripts in the documentation', () => {
    const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join('src', name), 'utf8'));
    const called = sources.flatMap((text) =>
      Array.from(text.matchAll(/redis\.p?call\('(\w+)'/g), ([, name = '']) => name),
    );
    expect(called.length).toBeGreaterThan(20);
    const granted = new Set(rights.split(' '));
    expect(called.filter((name) => !granted.has(`+${name.toLowerCase()}`))).toEqual([]);
  });

  it.each([
    ['no scripts', '-eval -evalsha'],
    ['no writes', '-set -del'],
    ['other keys', 'resetkeys ~other:*'],
    ['no pings', '-ping'],
    ['a command of the scripts missing', '-hdel'],
  ])('names what a user lacks: %s', async (name, without) => {
    expect(await check(await urlOfUser(name.replaceAll(' ', '-'), `${rights} ${without}`))).toEqual([
      expect.stringMatching(/^problem Redis at .*\((NOPERM|ERR)\).* -> .*(allow its user|see the log)/),
    ]);
  });

  it('says why Redis is lost: the password, the name, the port', async () => {
    const port = String(redis.port);
    expect(await check(`redis://nobody:wrong@127.0.0.1:${port}`)).toEqual([
      expect.stringMatching(/^problem .*\(WRONGPASS\).* -> correct the user/),
    ]);
    expect(await check('redis://127.0.0.1:9')).toEqual([
      expect.stringMatching(/^problem .*\(ECONNREFUSED\).* -> check cache\.redis\.url/),
    ]);
  });

  it('says that a Redis without a limit grows, and that one with another policy refuses writes', async () => {
    await redis.command('CONFIG SET maxmemory-policy noeviction');
    expect(await check(redis.url)).toContainEqual(
      expect.stringMatching(/^note .*noeviction.* -> set maxmem/),
    );
    await redis.command('CONFIG SET maxmemory 0');
    expect(await check(redis.url)).toContainEqual(
      expect.stringMatching(/^note .*no maxmemory.* -> set maxm/),
    );
    await redis.command('CONFIG SET maxmemory 100mb');
    await redis.command('CONFIG SET maxmemory-policy allkeys-lru');
    expect(await check(redis.url)).toEqual([expect.stringMatching(/^ok /)]);
  });

  it('finds cache.redis.cluster wrong, in both directions', async () => {
    const cluster = cleanup.use(await RedisCluster.start());
    expect(await check(cluster.url)).toEqual([
      expect.stringMatching(/^problem .* is a node of a Redis Cluster -> .*cluster: true/),
    ]);
    expect(await check(cluster.url, true)).toContainEqual(expect.stringMatching(/^ok /));
    expect(await check(redis.url, true)).toEqual([
      expect.stringMatching(/^problem .*\(no cluster\).* -> it is a single Redis: set .*cluster: false/),
    ]);
  });
});

it('/readyz says that Redis refuses commands, and is 200: the proxy goes on alone', async () => {
  const url = await urlOfUser('reader', '~spandrel:* +@read +ping +info');
  const app = await proxyWith(
    { url: 'http://127.0.0.1:9' },
    {
      environment: {
        SPANDREL_CACHE_REDIS_URL: url,
        SPANDREL_REPLICA_URL: 'http://127.0.0.1:0',
        SPANDREL_REPLICA_TOKEN: makeSecret('token of a replica without rights'),
      },
    },
  );
  const response = await fetch(`${app.adminUrl}/readyz`);
  expect(response.status).toBe(200);
  const { warnings } = (await response.json()) as { warnings: string[] };
  expect(warnings).toEqual([
    expect.stringMatching(/^cache\.redis: Redis refuses commands \(NOPERM\): allow/),
  ]);
});
