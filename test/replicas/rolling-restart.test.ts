import { beforeEach, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const MIB = 2 ** 20;
/** The registry sends this much of a blob at once. */
const SENT_BYTES = 4 * MIB;
const WAIT = { timeout: 30_000, interval: 20 };

let redis: RedisServer;
let registry: ScriptedRegistry;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
});

/** The registry sends the rest of a blob when `until` resolves. */
function holdRest(digest: Digest, until: Promise<void>, isHolding = (): boolean => true): void {
  registry.faults.set([
    {
      match: ({ path, range = '' }) =>
        isHolding() && path.endsWith(digest) && Number(/\d+/.exec(range)) >= SENT_BYTES,
      action: { kind: 'hold', until },
    },
  ]);
}

async function leases({ adminUrl }: RunningApp): Promise<number> {
  const list = (await (await fetch(`${adminUrl}/api/v1/replicas`)).json()) as { leases: unknown[] };
  return list.leases.length;
}

it('replicas that empty ones replace one by one fetch nothing twice and lose no request', async () => {
  const blobs = [randomBlob(3_000_000, 1), randomBlob(1_000_000, 2)];
  for (const blob of blobs) await registry.addBlob('app', Uint8Array.from(blob));
  const replicas = await startReplicas(3, registry, redis, { isFollower: true });
  const begin = async (): Promise<readonly { readonly blob: Buffer; readonly pull: BlobPull }[]> => {
    const begun = replicas.flatMap((app) =>
      blobs.map((blob) => ({ blob, pull: new BlobPull(app, digestOf(blob)) })),
    );
    for (const { pull } of begun) await pull.begun;
    return begun;
  };
  const expectRight = async (begun: Awaited<ReturnType<typeof begin>>): Promise<void> => {
    for (const { blob, pull } of begun) expect((await pull.bytes)?.equals(blob)).toBe(true);
  };
  await expectRight(await begin());
  registry.requests.clear();
  for (let round = 0; round < 3; round++) {
    const running = await begin();
    const leaving = replicas.shift();
    await leaving?.drain();
    await leaving?.[Symbol.asyncDispose]();
    replicas.push(...(await startReplicas(1, registry, redis, { isFollower: true })));
    await expectRight(running);
    await expectRight(await begin());
  }
  expect(registry.requests.bytesSent).toBe(0);
});

it('a replica that stops during a fill hands it over, and its own readers get the rest', async () => {
  const blob = randomBlob(24 * MIB, 3);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  const environment = { SPANDREL_FILL_PARALLEL: '2', SPANDREL_SHUTDOWN_GRACE_MS: '30000' };
  const options = { environment, isFollower: true, endsAtWork: true };
  const replicas = await startReplicas(3, registry, redis, options);
  holdRest(digest, until);
  const pulls = replicas.map((app) => new BlobPull(app, digest));
  for (const pull of pulls) await expect.poll(() => pull.receivedBytes, WAIT).toBe(SENT_BYTES);
  const held = await Promise.all(replicas.map(leases));
  expect(held.toSorted((a, b) => a - b)).toEqual([0, 0, 1]);
  const [leaving] = replicas.splice(held.indexOf(1), 1);
  await leaving?.drain();
  const left = leaving?.[Symbol.asyncDispose]();
  release();
  for (const pull of pulls) expect((await pull.bytes)?.equals(blob)).toBe(true);
  await left;
  // Some requests were under way.
  expect(registry.requests.bytesSent).toBeLessThanOrEqual(1.4 * blob.byteLength);
});

it('a replica that stops does not wait for an upstream that hangs: the others take over', async () => {
  const blob = randomBlob(8 * MIB, 4);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  const environment = { SPANDREL_FILL_PARALLEL: '2', SPANDREL_SHUTDOWN_GRACE_MS: '1000' };
  const options = { environment, isFollower: true, endsAtWork: true };
  const [leaving, other] = (await startReplicas(2, registry, redis, options)) as [RunningApp, RunningApp];
  let isHanging = true;
  holdRest(digest, until, () => isHanging);
  const pull = new BlobPull(leaving, digest);
  await expect.poll(() => pull.receivedBytes, WAIT).toBe(SENT_BYTES);
  const followed = new BlobPull(other, digest);
  await expect.poll(() => followed.receivedBytes, WAIT).toBe(SENT_BYTES);
  isHanging = false;
  await leaving.drain();
  await leaving[Symbol.asyncDispose]();
  expect((await followed.bytes)?.equals(blob)).toBe(true);
  release();
});
