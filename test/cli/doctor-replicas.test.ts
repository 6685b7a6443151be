import { readFile } from 'node:fs/promises';

import { beforeEach, expect, it } from 'vitest';

import { checkConfig } from '../../src/cli/doctor/config/check-config.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { replicaEnvironment, startReplicas } from '../helpers/replica-set.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const UPSTREAM = { url: 'http://127.0.0.1:9' };

let redis: RedisServer;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
});

/** Findings about replicas, as `status message`. */
async function check(environment: Record<string, string> = {}): Promise<string[]> {
  const config = parseConfig({
    yaml: '',
    environment: {
      ...replicaEnvironment(redis),
      SPANDREL_REPLICA_URL: 'http://127.0.0.1:5000',
      SPANDREL_STORAGE_ROOT: await temporaryFolder(),
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'up', ...UPSTREAM }]),
      ...environment,
    },
  });
  const findings = await checkConfig(config, (path) => readFile(path));
  for (const { status, next } of findings) if (status === 'problem') expect(next).toBeTruthy();
  const lines = findings.map(({ status, message }) => `${status} ${message}`);
  return lines.filter((line) => line.includes('replica')).toSorted();
}

it('doctor --config asks every replica that shares the Redis, and joins none', async () => {
  const apps = await startReplicas(2, UPSTREAM, redis);
  const expected = apps.map(({ url }) => `ok replica ${url} responds to this one`).toSorted();
  expect(await check()).toEqual(expected);
  expect(await check()).toEqual(expected);
});

it('doctor --config names replicas that do not respond, and those that refuse', async () => {
  const [first] = await startReplicas(1, UPSTREAM, redis);
  const port = new URL(first?.url ?? '').port;
  await startReplicas(1, UPSTREAM, redis, { environment: { SPANDREL_REPLICA_URL: 'http://127.0.0.1:9' } });
  // The address of another replica.
  const stolen = `http://localhost:${port}`;
  await startReplicas(1, UPSTREAM, redis, { environment: { SPANDREL_REPLICA_URL: stolen } });
  expect(await check()).toEqual([
    `ok replica ${first?.url} responds to this one`,
    expect.stringMatching(/^problem replica http:\/\/127\.0\.0\.1:9 does not respond/),
    expect.stringMatching(/^problem replica http:\/\/localhost:\d+ refuses requests/),
  ]);
});

it('doctor --config says that no replica is running, and that some have another token', async () => {
  expect(await check()).toEqual(['note no replica is running with this Redis and replica.token']);
  await startReplicas(1, UPSTREAM, redis);
  const environment = { SPANDREL_REPLICA_TOKEN: makeSecret('another token of replicas') };
  expect(await check(environment)).toEqual([
    expect.stringMatching(/^problem 1 of the replicas that share this Redis has another replica\.token/),
  ]);
});

it.each([
  ['http://8.8.8.8:5000', true],
  ['http://[2606:4700::1111]:5000', true],
  ['https://8.8.8.8:5000', false],
  ['http://192.168.1.7:5000', false],
  ['http://replica.example.com:5000', false],
])('doctor --config notes whether others could read what replicas send: %s, %s', async (url, isReadable) => {
  const findings = await check({ SPANDREL_REPLICA_URL: url });
  const noted = findings.filter((line) => line.startsWith('note replica.url is plain HTTP at a public'));
  expect(noted.length > 0).toBe(isReadable);
});

it('/readyz of a running replica warns of others with another token, and stays 200', async () => {
  const environment = { SPANDREL_REPLICA_TOKEN: makeSecret('token of another group of replicas') };
  const [first] = await startReplicas(1, UPSTREAM, redis);
  await startReplicas(1, UPSTREAM, redis, { environment });
  const warnings = async (): Promise<string[]> => {
    const response = await fetch(`${first?.adminUrl}/readyz`);
    expect(response.status).toBe(200);
    return ((await response.json()) as { warnings: string[] }).warnings;
  };
  await expect
    .poll(warnings, { timeout: 30_000 })
    .toEqual([expect.stringMatching(/^replica\.token: replicas with another token share this Redis/)]);
});
