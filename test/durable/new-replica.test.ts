import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { gzipped, pullManifest, requestBlob, sha256 } from '../helpers/images/inflated-image.ts';
import { CONTAINERD } from '../helpers/lazy-app.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { file, member, tarOf } from '../helpers/layers/tar-members.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { GivenProfiles } from '../helpers/starts/given-profiles.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const SHARED_KEY = makeSecret('shared key');
/** Repositories by what their tags answer. */
const FORMS = {
  lean: {},
  mirror: {},
  inflated: { v2Form: 'inflated' },
  boot: { bootLayer: 'next' },
} as const;
const PREFIX = 'tier/';

let bucket: MotoBucket;
let upstream: ImageUpstream;
let network: FaultProxy;
let originals: ReadonlyMap<string, Digest>;
let answers: Readonly<Record<string, unknown>>;

beforeAll(async () => {
  bucket = cleanup.use(await MotoBucket.start());
  upstream = cleanup.use(await ImageUpstream.start());
  network = cleanup.use(await FaultProxy.start(upstream.url));
  const added = Object.keys(FORMS).map(async (form, place) => {
    const noise = Buffer.from(randomBlob(200_000, place));
    await upstream.addImage(`team/${form}`, [
      gzipped(tarOf(file('etc/a', form), member({ name: 'noise', data: noise }))),
      gzipped(tarOf(file('etc/b', `second of ${form}`))),
    ]);
    const tagged = await fetch(`${upstream.url}/v2/team/${form}/manifests/latest`);
    return [form, sha256(Buffer.from(await tagged.arrayBuffer()))] as const;
  });
  originals = new Map(await Promise.all(added));
  setAwsEnvironment(STATIC_KEYS);
  // The first replica indexes everything, writes it behind, and is gone.
  const first = await startReplica({ prefix: PREFIX, profiles: booting() });
  answers = await pullAll(first);
  await endWritten(first);
}, 60_000);

/** Ends a replica that has written all that it has to write. */
async function endWritten(replica: RunningApp): Promise<void> {
  for (const kind of ['blob', 'record'])
    await vi.waitFor(async () => {
      const waiting = await replica.metric(`spandrel_durable_queue_length{kind="${kind}"}`);
      if (waiting > 0) throw new Error(`${waiting} ${kind}s wait to be written`);
    }, 20_000);
  await replica[Symbol.asyncDispose]();
}

beforeEach(() => {
  network.fault = () => PASS;
  network.seen.length = 0;
  setAwsEnvironment(STATIC_KEYS);
});

/** Starts have read a file of one image. */
const booting = (): GivenProfiles => new GivenProfiles().give('team/boot', ['etc/a']);

interface Replica {
  readonly environment?: Readonly<Record<string, string>>;
  readonly profiles?: GivenProfiles;
  readonly root?: string;
  /** Requests to the upstream may hang in the end. */
  readonly endsAtWork?: boolean;
  /** In the bucket; `undefined` if there is no bucket. */
  readonly prefix: string | undefined;
}

function startReplica({ environment, profiles, prefix, ...options }: Replica): Promise<RunningApp> {
  const rules = Object.entries(FORMS).map(([form, rule]) => ({ repository: `team/${form}`, ...rule }));
  const tier = {
    SPANDREL_STORAGE_S3_BUCKET: bucket.name,
    SPANDREL_STORAGE_S3_PREFIX: prefix ?? '',
    SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
    SPANDREL_CACHE_REDIS_KEY: SHARED_KEY,
  };
  return proxyWith(network, {
    ...options,
    profiles: profiles ?? new GivenProfiles(),
    upstream: { host: 'registry.test' },
    environment: {
      ...(prefix === undefined ? {} : tier),
      SPANDREL_UPSTREAM_RETRIES: '0',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_HOLD_MS: '600000',
      SPANDREL_INDEX_RULES: JSON.stringify(rules),
      ...environment,
    },
  });
}

/** What nodes get of each image: tag, manifests, config, layers, zTOCs, a part of a file. */
async function pullAll(app: RunningApp, forms = Object.keys(FORMS)): Promise<Record<string, unknown>> {
  const seen: Record<string, unknown> = {};
  for (const form of forms) {
    const original = originals.get(form) ?? '';
    const repository = `team/${form}`;
    const isMirrored = form === 'mirror';
    const image = await pullWhole(app, repository, 'latest', isMirrored);
    const plain = await pullWhole(app, repository, original, isMirrored);
    const query = `artifactType=${encodeURIComponent(MEDIA_TYPES.sociIndexV1)}`;
    const referrers = await fetch(`${app.url}/v2/up/${repository}/referrers/${original}?${query}`);
    const { manifests } = (await referrers.json()) as { manifests: { digest: string }[] };
    const indexes = [];
    for (const { digest } of manifests) indexes.push(await pullWhole(app, repository, digest, false));
    const read = await fetch(`${app.url}/v2/up/${repository}/_soci/images/latest/files/noise`, {
      headers: { range: 'bytes=100000-150000', 'user-agent': CONTAINERD },
    });
    const part = [read.status, sha256(Buffer.from(await read.arrayBuffer()))];
    seen[form] = { image, plain, indexes, part };
  }
  return seen;
}

async function pullWhole(
  app: RunningApp,
  repository: string,
  reference: string,
  isMirrored: boolean,
): Promise<unknown> {
  const { digest, manifest } = await pullManifest(app, reference, { repository, isMirrored });
  const children = [];
  for (const { digest: child } of manifest.manifests ?? [])
    children.push(await pullWhole(app, repository, child, isMirrored));
  const blobs = [];
  for (const { digest: blob } of manifest.layers === undefined ? [] : [manifest.config, ...manifest.layers]) {
    const size = await requestBlob(app, blob, {}, { repository, method: 'HEAD' });
    const { status, body } = await requestBlob(app, blob, {}, { repository });
    expect([size.status, size.headers['content-length']]).toEqual([200, String(body.byteLength)]);
    blobs.push([blob, status, sha256(body)]);
  }
  return { digest, children, blobs };
}

/** Requests of any kind for blobs that the upstream has got. */
function asked(): string[] {
  return network.seen.filter((request) => request.includes('/blobs/'));
}

describe('a new replica with an empty disk and the same bucket', () => {
  it.each(['without Redis', 'with a new Redis'])(
    'serves images in every form (%s) without asking the upstream for a blob, and builds nothing',
    async (storage) => {
      const environment: Record<string, string> = {};
      if (storage !== 'without Redis') {
        const redis = cleanup.use(await RedisServer.start());
        environment['SPANDREL_CACHE_REDIS_URL'] = redis.url;
      }
      // It has no profile: the boot layer is that of the first one.
      const replica = await startReplica({ prefix: PREFIX, environment });
      expect(await pullAll(replica)).toEqual(answers);
      expect(asked()).toEqual([]);
      expect(await replica.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
    },
  );

  it('serves one also while the upstream hangs', async () => {
    network.fault = () => ({ kind: 'stall' });
    const replica = await startReplica({ prefix: PREFIX, endsAtWork: true });
    expect(await pullAll(replica, ['lean'])).toEqual({ lean: answers['lean'] });
  });

  it('serves them also while the upstream is away', async () => {
    network.fault = () => ({ kind: 'reset' });
    const replica = await startReplica({ prefix: PREFIX });
    expect(await pullAll(replica)).toEqual(answers);
    expect(await replica.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
  });

  it('serves also what was on a disk before there was a bucket, once that was in use', async () => {
    const root = await temporaryFolder();
    const before = await startReplica({ prefix: undefined, profiles: booting(), root });
    expect(await pullAll(before)).toEqual(answers);
    await before[Symbol.asyncDispose]();
    const later = await startReplica({ prefix: 'later/', root });
    expect(await pullAll(later)).toEqual(answers);
    await endWritten(later);

    network.seen.length = 0;
    const replica = await startReplica({ prefix: 'later/' });
    expect(await pullAll(replica)).toEqual(answers);
    expect(asked().filter((request) => request.startsWith('GET'))).toEqual([]);
    expect(await replica.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
  });
});
