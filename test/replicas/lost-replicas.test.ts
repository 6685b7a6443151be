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

/** What a replica shows of all, and of the blobs that it fetches for all. */
async function list({
  adminUrl,
}: ServedProxy): Promise<{ replicas: unknown[]; leases: { digest: string }[] }> {
  const response = await fetch(`${adminUrl}/api/v1/replicas`);
  return (await response.json()) as Awaited<ReturnType<typeof list>>;
}

async function findHolders(among: readonly ServedProxy[], digest: string): Promise<ServedProxy[]> {
  const lists = await Promise.all(among.map(list));
  return among.filter((_, place) => lists[place]?.leases.some((lease) => lease.digest === digest));
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
  // One that was frozen has to come back first.
  for (const replica of among)
    await expect.poll(async () => (await list(replica)).replicas.length, WAIT).toBe(among.length);
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
  await expect.poll(async () => (await findHolders(among, digest)).length, WAIT).toBe(1);
  const [holder] = (await findHolders(among, digest)) as [ServedProxy];
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
