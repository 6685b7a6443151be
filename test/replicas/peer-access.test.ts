import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { Secret } from '../../src/core/secret.ts';
import { memberId } from '../../src/replicas/member.ts';
import { PROOF_HEADER } from '../../src/replicas/peer-client.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { REPLICA_TOKEN, replicaEnvironment, startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const BLOB = randomBlob(2_000_000, 1);
const PATH = `/v2/up/app/blobs/${digestOf(BLOB)}`;
const SENDER = '0123456789abcdef';

let redis: RedisServer;
let registry: ScriptedRegistry;
let replica: RunningApp;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
  await registry.addBlob('app', Uint8Array.from(BLOB));
  [replica] = (await startReplicas(1, registry, redis)) as [RunningApp];
  const response = await fetch(replica.url + PATH);
  await response.arrayBuffer();
});

interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly range?: string;
  /** What is signed instead. */
  readonly signed?: { readonly method?: string; readonly url?: string; readonly range?: string };
  readonly token?: string;
  readonly to?: string;
  readonly nowMs?: number;
}

/** A request as another replica sends it. */
async function ask({ method = 'GET', path = PATH, range, signed, ...by }: Asked = {}): Promise<{
  status: number;
  isProven: boolean;
  bytes: Buffer;
}> {
  const { token = REPLICA_TOKEN, to = memberId(replica.url), nowMs = Date.now() } = by;
  const seal = new PeerSeal(new Secret(token), () => nowMs);
  const authorization = seal.signRequest({ method, url: path, range, ...signed }, SENDER, to);
  const headers = { authorization, ...(range === undefined ? {} : { range }) };
  const response = await fetch(replica.url + path, { method, headers });
  const isProven = seal.isProof(response.headers.get(PROOF_HEADER), authorization);
  return { status: response.status, isProven, bytes: Buffer.from(await response.arrayBuffer()) };
}

describe('a replica', () => {
  it('sends a blob that it has to one that signs, and shows that it is a replica', async () => {
    const { bytes, ...answer } = await ask({ range: 'bytes=100-199' });
    expect(answer).toEqual({ status: 206, isProven: true });
    expect(bytes.equals(BLOB.subarray(100, 200))).toBe(true);
  });

  it('shows another one that it can be reached', async () => {
    expect(await ask({ path: '/' })).toMatchObject({ status: 200, isProven: true });
  });

  it.each<readonly [string, Asked]>([
    ['another token', { token: makeSecret('another token') }],
    ['another replica as receiver', { to: SENDER }],
    ['an old time', { nowMs: 1_800_000_000_000 }],
    ['another path', { signed: { url: '/v2/up/other/blobs/x' } }],
    ['another range', { range: 'bytes=0-9', signed: { range: 'bytes=0-1' } }],
    ['another method', { signed: { method: 'HEAD' } }],
  ])('refuses a signature with %s', async (_what, asked) => {
    expect(await ask(asked)).toMatchObject({ status: 403, isProven: false });
  });

  it.each<readonly [string, Asked]>([
    ['a tag', { path: '/v2/up/app/manifests/latest' }],
    ['the size of a blob', { method: 'HEAD' }],
    ['decompressed bytes', { path: `/v2/up/app/_soci/layers/${digestOf(BLOB)}/tar` }],
    ['the list of repositories', { path: '/v2/_catalog' }],
  ])('sends no other replica %s', async (_what, asked) => {
    expect((await ask(asked)).status).toBe(403);
  });

  it('asks nobody else for what another replica wants', async () => {
    const other = randomBlob(1000, 2);
    await registry.addBlob('app', Uint8Array.from(other));
    registry.requests.clear();
    const { status, isProven } = await ask({ path: `/v2/up/app/blobs/${digestOf(other)}` });
    expect({ status, isProven }).toEqual({ status: 404, isProven: true });
    expect(registry.requests.requestCount).toBe(0);
  });

  it('sends only what the repository has', async () => {
    const { status } = await ask({ path: PATH.replace('/app/', '/other/') });
    expect(status).toBe(403);
  });

  it('admits replicas that no rule for clients admits', async () => {
    await replica.reload({
      ...replicaEnvironment(redis),
      SPANDREL_ACCESS_CIDRS: '["192.0.2.0/24"]',
      SPANDREL_LIMITS_REQUESTS_PER_SECOND: '1',
    });
    expect((await fetch(replica.url + PATH)).status).toBe(403);
    for (let times = 0; times < 5; times++)
      expect(await ask()).toMatchObject({ status: 200, isProven: true });
    const [second] = (await startReplicas(1, registry, redis, { isFollower: true })) as [RunningApp];
    const response = await fetch(second.url + PATH);
    expect(response.headers.get('cache-status')).toContain('detail=peer');
    expect(Buffer.from(await response.arrayBuffer()).equals(BLOB)).toBe(true);
  });
});
