import { beforeAll, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { type ServedProxy, serveWith } from '../helpers/proxy-with.ts';
import { replicaEnvironment } from '../helpers/replica-set.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const MIB = 2 ** 20;
const BLOB_BYTES = 8 * MIB;
/** The registry sends this much of a blob at once. */
const SENT_BYTES = 4 * MIB;
const WAIT = { timeout: 30_000, interval: 20 };

let registry: ScriptedRegistry;
let replicas: ServedProxy[];

beforeAll(async () => {
  const redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
  const environment = replicaEnvironment(redis);
  replicas = await Promise.all([0, 1, 2].map(() => serveWith(registry, { environment })));
});

async function holdsLease({ adminUrl }: ServedProxy, digest: string): Promise<boolean> {
  const { leases } = (await (await fetch(`${adminUrl}/api/v1/replicas`)).json()) as {
    leases: { digest: string }[];
  };
  return leases.some((lease) => lease.digest === digest);
}

interface Burst {
  readonly holder: ServedProxy;
  readonly others: readonly ServedProxy[];
  readonly blob: Buffer;
  /** What each replica serves, in the order of `replicas`. */
  readonly pulled: ReadonlyMap<ServedProxy, BlobPull>;
  /** The registry answers again. */
  readonly release: () => void;
}

/** A cold blob is pulled from all replicas. One of them has fetched half of it, and the registry waits. */
async function beginBurst(among: readonly ServedProxy[], seed: number): Promise<Burst> {
  const blob = randomBlob(BLOB_BYTES, seed);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  registry.requests.clear();
  registry.faults.set([
    {
      match: ({ path, range = '' }) => path.endsWith(digest) && Number(/\d+/.exec(range)) >= SENT_BYTES,
      action: { kind: 'hold', until },
    },
  ]);
  const pulled = new Map(among.map((replica) => [replica, new BlobPull(replica, digest)]));
  for (const pull of pulled.values()) await expect.poll(() => pull.receivedBytes, WAIT).toBe(SENT_BYTES);
  const holders: ServedProxy[] = [];
  for (const replica of among) if (await holdsLease(replica, digest)) holders.push(replica);
  const [holder, ...more] = holders;
  if (holder === undefined || more.length > 0) throw new Error(`${holders.length} replicas hold the lease`);
  const others = among.filter((replica) => replica !== holder);
  return { holder, others, blob, pulled, release };
}

it('the others go on without a frozen replica, and it goes on when it is back', async () => {
  const { holder, others, blob, pulled, release } = await beginBurst(replicas, 1);
  holder.process.kill('SIGSTOP');
  release();
  for (const other of others) expect((await pulled.get(other)?.bytes)?.equals(blob)).toBe(true);
  holder.process.kill('SIGCONT');
  expect((await pulled.get(holder)?.bytes)?.equals(blob)).toBe(true);
});

it('a replica that dies costs the upstream little, and readers of the others a pause', async () => {
  const { holder, others, blob, pulled, release } = await beginBurst(replicas, 2);
  holder.process.kill('SIGKILL');
  await holder.process.exitStatus();
  release();
  for (const other of others) expect((await pulled.get(other)?.bytes)?.equals(blob)).toBe(true);
  expect(registry.requests.bytesSent).toBeLessThanOrEqual(1.2 * BLOB_BYTES);
  expect(await pulled.get(holder)?.bytes).toBeUndefined();
});
