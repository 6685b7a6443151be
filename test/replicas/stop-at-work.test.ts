import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { type ServedProxy, serveWith } from '../helpers/proxy-with.ts';
import { replicaEnvironment, startReplicas } from '../helpers/replica-set.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const MIB = 2 ** 20;
const BLOB_BYTES = 8 * MIB;
/** The registry sends this much of a blob at once. */
const SENT_BYTES = 4 * MIB;
/** Responses that have begun end whole, and tags wait for indexes, on a busy machine too. */
const PATIENT = { SPANDREL_SHUTDOWN_GRACE_MS: '30000', SPANDREL_INDEX_HOLD_MS: '50000' };
const WAIT = { timeout: 30_000, interval: 20 };

let redis: RedisServer;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
});

describe('a replica that is told to stop', () => {
  /** Lets the registry hold what is behind the first half of a blob. @returns what ends that */
  function holdSecondHalf(registry: ScriptedRegistry, digest: string): () => void {
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    registry.faults.set([
      {
        match: ({ path, range = '' }) => path.endsWith(digest) && Number(/\d+/.exec(range)) >= SENT_BYTES,
        action: { kind: 'hold', until },
      },
    ]);
    return release;
  }

  /** A blob that twenty clients read from this replica, which has half of it. */
  async function beginReaders(
    app: ServedProxy,
    registry: ScriptedRegistry,
  ): Promise<{ readonly blob: Buffer; readonly pulls: readonly BlobPull[]; readonly release: () => void }> {
    const blob = randomBlob(BLOB_BYTES, 1);
    const digest = await registry.addBlob('app', Uint8Array.from(blob));
    const release = holdSecondHalf(registry, digest);
    const pulls = Array.from({ length: 20 }, () => new BlobPull(app, digest));
    for (const pull of pulls) await expect.poll(() => pull.receivedBytes, WAIT).toBe(SENT_BYTES);
    return { blob, pulls, release };
  }

  it('ends by itself while Redis hangs and the bucket takes nothing; its readers get all', async () => {
    const registry = cleanup.use(await ScriptedRegistry.start());
    const bucket = cleanup.use(await MotoBucket.start());
    const faults = cleanup.use(await FaultProxy.start(bucket.url));
    faults.fault = ({ method }) => (method === 'PUT' || method === 'POST' ? { kind: 'stall' } : PASS);
    const app = await serveWith(registry, {
      environment: {
        ...replicaEnvironment(redis),
        ...PATIENT,
        SPANDREL_STORAGE_S3_BUCKET: bucket.name,
        SPANDREL_STORAGE_S3_ENDPOINT: faults.url,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: makeSecret('key of a bucket that hangs'),
      },
    });
    const { blob, pulls, release } = await beginReaders(app, registry);
    redis.freeze();
    app.process.kill('SIGTERM');
    await expect.poll(() => app.process.log.map(({ msg }) => msg), WAIT).toContain('stopping');
    release();
    for (const pull of pulls) expect((await pull.bytes)?.equals(blob)).toBe(true);
    // Something waits to be written.
    await expect
      .poll(() => faults.seen.filter((line) => line.startsWith('P')).length, WAIT)
      .toBeGreaterThan(0);
    expect(await app.process.exitStatus()).toBe(0);
    redis.thaw();
  });

  it('while layers of an image arrive: each is indexed once, by it or by another', async () => {
    const upstream = cleanup.use(await ImageUpstream.start());
    const layers = [1, 2].map((seed) =>
      gzipLayer(tarArchive({ [`file-${seed}`]: Uint8Array.from(randomBlob(BLOB_BYTES, seed)) })),
    );
    const digests = await upstream.addImage('app', layers);
    const environment = {
      ...PATIENT,
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_V2_FORM: 'lean',
    };
    const replicas = await startReplicas(3, upstream, redis, { environment, isFollower: true });
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    upstream.registry.faults.set([
      {
        match: ({ path, range = '' }) =>
          digests.some((digest) => path.endsWith(digest)) && Number(/\d+/.exec(range)) >= SENT_BYTES,
        action: { kind: 'hold', until },
      },
    ]);
    const tag = async ({ url }: RunningApp): Promise<string | null> => {
      const headers = { accept: OCI, 'user-agent': CONTAINERD };
      const response = await fetch(`${url}/v2/up/app/manifests/latest`, { headers });
      return response.headers.get('docker-content-digest');
    };
    // They are held until the image is indexed.
    const tags = replicas.map(tag);
    const pulls = replicas.flatMap((app) =>
      digests.map((digest) => ({ digest, pull: new BlobPull(app, digest) })),
    );
    for (const { pull } of pulls) await expect.poll(() => pull.receivedBytes, WAIT).toBe(SENT_BYTES);
    const [leaving, ...others] = replicas;
    await leaving?.drain();
    const left = leaving?.[Symbol.asyncDispose]();
    release();
    for (const { digest, pull } of pulls)
      expect(digestOf((await pull.bytes) ?? Buffer.alloc(0))).toBe(digest);
    const answers = await Promise.all(tags);
    expect(new Set(answers).size).toBe(1);
    expect(answers).not.toContain(null);
    await left;
    const counts = others.map((app) => app.metric('spandrel_index_build_duration_seconds_count'));
    const built = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    expect(built).toBeLessThanOrEqual(layers.length);
  });
});
