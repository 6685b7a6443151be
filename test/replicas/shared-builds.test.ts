import { beforeAll, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { HeldLease } from '../../src/replicas/held-lease.ts';
import { SharedBuilds } from '../../src/replicas/shared-builds.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { gzipped, pullManifest } from '../helpers/images/inflated-image.ts';
import { member, tarOf } from '../helpers/layers/tar-members.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { connectReplica, type LeaseReplica } from '../helpers/lease-replica.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const NEVER = new AbortController().signal;

let redis: RedisServer;
let lastName = 0;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
});

/** A thing that replicas build and share. */
class Thing {
  readonly name = `thing ${++lastName}`;
  builds = 0;
  shared: string | undefined;
  /** The build ends when this does. */
  gate: Promise<unknown> = Promise.resolve();
  isShared = true;
  whenSought: () => Promise<void> = () => Promise.resolve();
  /** A part of the build. */
  during: () => Promise<void> = () => Promise.resolve();

  /** What the replica gets. */
  async get(
    { leases }: LeaseReplica,
    {
      hurry = NEVER,
      signal = NEVER,
      isMember = true,
      maxWaitMs = 60_000,
    }: { hurry?: AbortSignal; signal?: AbortSignal; isMember?: boolean; maxWaitMs?: number } = {},
  ): Promise<string> {
    const events = new Events(collectingLogger());
    const builds = new SharedBuilds({ leases, isMember: () => Promise.resolve(isMember), maxWaitMs, events });
    return builds.run({
      name: this.name,
      isLate: false,
      find: async () => {
        await this.whenSought();
        return this.shared;
      },
      build: async () => {
        const built = `build ${++this.builds}`;
        await this.gate;
        await this.during();
        if (this.isShared) this.shared = built;
        return built;
      },
      hurry,
      signal,
    });
  }
}

async function connect(count: number): Promise<readonly LeaseReplica[]> {
  const names = Array.from({ length: count }, (_, place) => `replica ${place}`);
  return Promise.all(names.map((name) => connectReplica(redis.url, name)));
}

it('of ten replicas that need a thing one builds it, and all have that', async () => {
  const thing = new Thing();
  const all = await Promise.all((await connect(10)).map((replica) => thing.get(replica)));
  expect(new Set(all)).toEqual(new Set(['build 1']));
});

it('a thing that the shared tier has lost is built again, by one of those that miss it', async () => {
  const [first, ...others] = (await connect(5)) as [LeaseReplica, ...LeaseReplica[]];
  const thing = new Thing();
  await thing.get(first);
  thing.shared = undefined;
  await Promise.all(others.map((replica) => thing.get(replica)));
  expect(thing.builds).toBe(2);
});

it('each replica builds what the shared tier cannot take', async () => {
  const thing = new Thing();
  thing.isShared = false;
  for (const replica of await connect(3)) await thing.get(replica);
  expect(thing.builds).toBe(3);
});

it('who twice finds nothing of what others have built waits for no third one', async () => {
  const [first, second, waiting] = (await connect(3)) as [LeaseReplica, LeaseReplica, LeaseReplica];
  const thing = new Thing();
  await first.leases.end(thing.name, undefined, 'done');
  const held: HeldLease[] = [];
  let finds = 0;
  thing.whenSought = async () => {
    finds++;
    // Before the seeker can, another one begins to build.
    const { leases } = finds === 1 ? second : first;
    const state = await leases.look(thing.name);
    const taken = state && (await leases.takeOver(thing.name, state, state.holders));
    held.push(new HeldLease(leases, thing.name, taken?.fence ?? ''));
    expect(taken?.kind).toBe('mine');
  };
  const getting = thing.get(waiting);
  await expect.poll(() => held.length).toBe(1);
  await held[0]?.end('done');
  expect(await getting).toBe('build 1');
  expect(finds).toBe(2);
  await held[1]?.end('undone');
});

it('a thing that cannot be built fails once on each replica', async () => {
  const thing = new Thing();
  thing.during = () => Promise.reject(new Error('no such layer'));
  const all = await Promise.allSettled((await connect(5)).map((replica) => thing.get(replica)));
  expect(all.map(({ status }) => status)).toEqual(all.map(() => 'rejected'));
  expect(thing.builds).toBe(5);
});

it('who only writes to Redis keeps nobody from building, for ever or as a replica that is none', async () => {
  const [writer, other] = (await connect(2)) as [LeaseReplica, LeaseReplica];
  const pretend = async (thing: Thing): Promise<HeldLease> =>
    new HeldLease(writer.leases, thing.name, (await writer.leases.claim(thing.name))?.fence ?? '');
  const [first, second] = [new Thing(), new Thing()];
  const leases = [await pretend(first), await pretend(second)];
  expect(await first.get(other, { isMember: false })).toBe('build 1');
  expect(await second.get(other, { maxWaitMs: 500 })).toBe('build 1');
  for (const lease of leases) await lease.end('undone');
});

it('who takes a lease while somebody hurries holds it during the build', async () => {
  const [first, second] = (await connect(2)) as [LeaseReplica, LeaseReplica];
  const thing = new Thing();
  const hurry = new AbortController();
  hurry.abort();
  const { promise, resolve } = Promise.withResolvers<void>();
  thing.gate = promise;
  const building = thing.get(first, { hurry: hurry.signal });
  await expect.poll(() => thing.builds).toBe(1);
  const waiting = thing.get(second);
  const silent = async (): Promise<number> => (await second.leases.look(thing.name))?.silentMs ?? 0;
  // It shows signs of life.
  await expect.poll(silent).toBeGreaterThan(100);
  await expect.poll(silent).toBeLessThan(100);
  resolve();
  expect([await building, await waiting]).toEqual(['build 1', 'build 1']);
});

it('the failure of one replica is not that of another', async () => {
  const [first, second] = (await connect(2)) as [LeaseReplica, LeaseReplica];
  const thing = new Thing();
  const { promise, reject } = Promise.withResolvers<void>();
  thing.gate = promise;
  const failing = thing.get(first);
  await expect.poll(() => thing.builds).toBe(1);
  const waiting = thing.get(second);
  thing.gate = Promise.resolve();
  reject(new Error('no disk'));
  await expect(failing).rejects.toThrow('no disk');
  expect(await waiting).toBe('build 2');
});

it('a replica that freezes in a build is waited for a second, and may wake up later', async () => {
  const [frozen, other, third] = (await connect(3)) as [LeaseReplica, LeaseReplica, LeaseReplica];
  const thing = new Thing();
  const held = await frozen.leases.claim(thing.name);
  expect(await thing.get(other)).toBe('build 1');
  // It ends a lease that is not its own any more.
  await frozen.leases.end(thing.name, held?.fence, 'done');
  expect(await thing.get(third)).toBe('build 1');
  expect(thing.builds).toBe(1);
});

it('who is in a hurry builds at once, and who is stopped waits no longer', async () => {
  const [first, second] = (await connect(2)) as [LeaseReplica, LeaseReplica];
  const thing = new Thing();
  const { promise, resolve } = Promise.withResolvers<void>();
  thing.gate = promise;
  const building = thing.get(first);
  await expect.poll(() => thing.builds).toBe(1);
  const stop = new AbortController();
  const stopped = thing.get(second, { signal: stop.signal });
  stop.abort(new Error('stopped'));
  await expect(stopped).rejects.toThrow('stopped');
  const hurry = new AbortController();
  const hurried = thing.get(second, { hurry: hurry.signal });
  hurry.abort();
  await expect.poll(() => thing.builds).toBe(2);
  resolve();
  expect([await building, await hurried]).toEqual(['build 1', 'build 2']);
});

it('each layer of an image that three replicas pull at once is indexed once', async () => {
  const upstream = cleanup.use(await ImageUpstream.start());
  const layers = [1, 2].map((seed) =>
    gzipLayer(tarArchive({ [`file-${seed}`]: Uint8Array.from(randomBlob(2_000_000, seed)) })),
  );
  const digests = await upstream.addImage('app', layers);
  const environment = { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_V2_FORM: 'lean' };
  const replicas = await startReplicas(3, upstream, redis, { environment });
  const tag = async ({ url }: RunningApp): Promise<string> => {
    const headers = { accept: OCI, 'user-agent': CONTAINERD };
    const response = await fetch(`${url}/v2/up/app/manifests/latest`, { headers });
    return `${response.status} ${response.headers.get('docker-content-digest')}`;
  };
  const layer = async ({ url }: RunningApp, place: number): Promise<boolean> => {
    const response = await fetch(`${url}/v2/up/app/blobs/${digests[place]}`);
    return digestOf(Buffer.from(await response.arrayBuffer())) === digests[place];
  };
  const answers = await Promise.all(replicas.map(tag));
  const pulled = await Promise.all(replicas.flatMap((app) => [layer(app, 0), layer(app, 1)]));
  expect(pulled).toEqual(pulled.map(() => true));
  expect(new Set(answers).size).toBe(1);
  const counts = replicas.map((app) => app.metric('spandrel_index_build_duration_seconds_count'));
  expect((await Promise.all(counts)).reduce((sum, count) => sum + count, 0)).toBe(layers.length);
  const size = layers.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const sent = upstream.registry.requests.entries
    .filter(({ method, path }) => method === 'GET' && digests.some((digest) => path.endsWith(digest)))
    .reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  expect(sent).toBeLessThanOrEqual(1.01 * size);
});

it('a zTOC of finer spans is made by one of the replicas that need it at once', async () => {
  const upstream = cleanup.use(await ImageUpstream.start());
  const tar = tarOf(member({ name: 'usr/lib/a', data: Buffer.from(randomBlob(1_000_000, 3)) }));
  await upstream.addImage('app', [gzipped(tar)]);
  const environment = {
    SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
    SPANDREL_INDEX_V2_FORM: 'lean',
    SPANDREL_INDEX_BOOT_LAYER: 'next',
    SPANDREL_INDEX_LEARN_SPAN_BYTES: '128KiB',
    SPANDREL_INDEX_HOLD_MS: '600000',
  };
  const replicas = await startReplicas(3, upstream, redis, { environment });
  const pulled = await Promise.all(replicas.map((app) => pullManifest(app, 'latest', { repository: 'app' })));
  expect(new Set(pulled.map(({ digest }) => digest)).size).toBe(1);
  const counts = replicas.map((app) => app.metric('spandrel_inflate_bytes_total{engine="wasm"}'));
  const inflated = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  // Once for the index, and once more for the other spans.
  expect(inflated / tar.byteLength).toBe(2);
});

it.each([
  ['get the indexed image if the index is there in time', 60_000],
  ['get the original if it is not, and all of them the indexed image then', 1],
])('clients that ask two replicas for a tag which one indexes %s', async (_, holdMs) => {
  const isInTime = holdMs > 1;
  const upstream = cleanup.use(await ImageUpstream.start());
  const tar = tarArchive({ file: Uint8Array.from(randomBlob(300_000, holdMs)) });
  const [layer = ''] = await upstream.addImage('app', [gzipLayer(tar)]);
  const environment = { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_HOLD_MS: String(holdMs) };
  const replicas = await startReplicas(2, upstream, redis, { environment });
  const ask = async ({ url }: RunningApp, agent = CONTAINERD): Promise<string | null> => {
    const headers = { accept: OCI, 'user-agent': agent };
    const response = await fetch(`${url}/v2/up/app/manifests/latest`, { headers });
    return response.headers.get('docker-content-digest');
  };
  const askAll = (agent?: string): Promise<(string | null)[]> =>
    Promise.all(replicas.map((app) => ask(app, agent)));
  const [original] = await askAll('curl/8');
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const action = { kind: 'hold', until: promise } as const;
  const match = { method: 'GET', path: new RegExp(layer) };
  upstream.registry.faults.set([{ match, action, onUse: () => held.resolve() }]);
  const asking = askAll();
  await held.promise;
  if (!isInTime) expect(await asking).toEqual([original, original]);
  resolve();
  // Clients that wait for nothing get the indexed image once it is there.
  const answers = async (): Promise<number> => new Set([...(await askAll('curl/8')), original]).size;
  const isSettled = async (): Promise<boolean> =>
    !(await askAll('curl/8')).includes(original ?? null) && (await answers()) === 2;
  await expect.poll(isSettled, { timeout: 20_000 }).toBe(true);
  const [lean] = await askAll();
  expect(await askAll('curl/8')).toEqual([lean, lean]);
  if (isInTime) expect(await asking).toEqual([lean, lean]);
  const counts = replicas.map((app) => app.metric('spandrel_index_build_duration_seconds_count'));
  expect((await Promise.all(counts)).reduce((sum, count) => sum + count, 0)).toBe(1);
});
