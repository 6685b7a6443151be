import { beforeAll, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { SharedBuilds } from '../../src/replicas/shared-builds.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
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

  /** What the replica gets. */
  async get({ leases }: LeaseReplica, { hurry = NEVER, signal = NEVER } = {}): Promise<string> {
    return new SharedBuilds({ leases, events: new Events(collectingLogger()) }).run({
      name: this.name,
      isLate: false,
      find: async () => this.shared,
      build: async () => {
        const built = `build ${++this.builds}`;
        await this.gate;
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

it('a replica that shows no sign of life is waited for a second', async () => {
  const [dead, alive] = (await connect(2)) as [LeaseReplica, LeaseReplica];
  const thing = new Thing();
  expect((await dead.leases.claim(thing.name))?.kind).toBe('mine');
  expect(await thing.get(alive)).toBe('build 1');
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
