import { beforeAll, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { INDEX_DIGEST_ANNOTATION } from '../../../src/soci/convert-image.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';
import {
  gzipped,
  pullManifest,
  requestBlob,
  type ServedManifest,
  sha256,
  TAR_SPAN_BYTES,
} from '../../helpers/images/inflated-image.ts';
import { resolveTag, SPAN_BYTES } from '../../helpers/lazy-app.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { file, member, tarOf } from '../../helpers/layers/tar-members.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';
import { GivenProfiles } from '../../helpers/starts/given-profiles.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';
import { GoldenImages } from '../../oracles/golden-images.ts';

const SETTINGS = {
  SPANDREL_INDEX_PREFETCH: 'profile',
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
  SPANDREL_INDEX_INFLATED_SPAN_BYTES: String(TAR_SPAN_BYTES),
  // A busy machine is slow, and the first response is what the tests want.
  SPANDREL_INDEX_HOLD_MS: '600000',
  SPANDREL_INDEX_RULES: JSON.stringify([
    { repository: 'off/**', prefetch: 'off' },
    { repository: 'inflated/**', v2Form: 'inflated' },
  ]),
};
const PATH = 'usr/lib/wanted';

const profiles = new GivenProfiles();
let upstream: ImageUpstream;
let root: string;
let app: RunningApp;

function start(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(upstream, {
    root,
    profiles,
    environment: { ...SETTINGS, ...environment },
    upstream: { host: 'registry.test' },
  });
}

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  root = await temporaryFolder();
  app = await start();
});

/** Pushes an image whose wanted file lies in the middle of the upper layer, and in the lower one. */
async function push(repository: string, tag = '1', upperName = PATH): Promise<void> {
  const noise = (name: string, seed: number): Buffer =>
    member({ name, data: Buffer.from(randomBlob(6 * TAR_SPAN_BYTES, seed)) });
  const seed = repository.length + Number(tag);
  const lowerName = upperName === PATH ? PATH : 'other';
  await upstream.addImage(
    repository,
    [
      gzipped(tarOf(file(lowerName, 'an older one'), noise('lower', seed + 1))),
      gzipped(tarOf(noise('before', seed + 2), file(upperName, tag), noise('after', seed + 3))),
    ],
    tag,
  );
}

interface SociIndexManifest extends ServedManifest {
  readonly subject?: object;
}

interface PrefetchBody {
  readonly version: string;
  readonly prefetch_spans: readonly { readonly start_span: number; readonly end_span: number }[];
}

async function manifestOf(from: RunningApp, repository: string, digest: string): Promise<SociIndexManifest> {
  return (await pullManifest(from, digest, { repository })).manifest;
}

/** The SOCI index that the tag of an image leads to. */
async function sociIndexOf(from: RunningApp, repository: string, tag = '1'): Promise<SociIndexManifest> {
  const { manifest } = await pullManifest(from, tag, { repository });
  return manifestOf(from, repository, manifest.annotations?.[INDEX_DIGEST_ANNOTATION] ?? '');
}

function artifactsOf({ layers }: ServedManifest): ServedManifest['layers'] {
  return layers.filter(({ mediaType }) => mediaType === MEDIA_TYPES.sociPrefetch);
}

async function readArtifact(
  from: RunningApp,
  repository: string,
  { digest, size }: ServedManifest['layers'][number],
): Promise<PrefetchBody> {
  const { status, body } = await requestBlob(from, digest, {}, { repository });
  expect([status, sha256(body), body.length]).toEqual([200, digest, size]);
  return JSON.parse(body.toString()) as PrefetchBody;
}

describe('index.prefetch: profile', () => {
  it.each([
    ['v2, in the full form', ['usr/lib/big.bin', 'etc/conf', 'both', 'nope', 'etc/conf2']],
    ['v1', ['etc/conf']],
  ] as const)('makes the index that soci makes from the same files: %s', async (version, paths) => {
    await using golden = await LayoutUpstream.start('prefetch');
    const given = new GivenProfiles();
    given.give('app', paths);
    const proxy = await proxyWith(golden, {
      profiles: given,
      upstream: { host: 'registry.test' },
      environment: { ...SETTINGS, SPANDREL_INDEX_V2_FORM: 'full', SPANDREL_INDEX_V1: 'true' },
    });
    const { runs, v1 } = GoldenImages.small().image('prefetch');
    if (version !== 'v1') {
      expect(runs[0]?.expected).toMatchObject({ topIndex: { digest: (await resolveTag(proxy)).digest } });
      const client = new SnapshotterClient({ repositoryUrl: `${proxy.url}/v2/up/app` });
      await client.start('latest');
      expect(client.mountedLayers).toHaveLength(4);
      return;
    }
    const [{ subject, digest } = { subject: '', digest: '' }] = v1?.sociIndexesV1 ?? [];
    const response = await fetch(`${proxy.url}/v2/up/app/referrers/${subject}`);
    expect(await response.json()).toMatchObject({ manifests: [{ digest }] });
  });

  it('lists the spans of the uppermost file of that path, after all zTOCs', async () => {
    const repository = 'team/next';
    profiles.give(repository, [PATH, 'no/such']);
    await push(repository);
    const planned = await app.metric('spandrel_prefetch_plans_total{outcome="planned"}');
    const index = await sociIndexOf(app, repository);
    expect(index.layers.map(({ mediaType }) => mediaType)).toEqual([
      MEDIA_TYPES.octetStream,
      MEDIA_TYPES.octetStream,
      MEDIA_TYPES.sociPrefetch,
    ]);
    const { layers } = (await pullManifest(app, '1', { repository })).manifest;
    const [artifact] = artifactsOf(index);
    expect(artifact?.annotations).toEqual({ 'com.amazon.soci.image-layer-digest': layers[1]?.digest });
    if (artifact === undefined) return;
    const { version, prefetch_spans: spans } = await readArtifact(app, repository, artifact);
    expect([version, spans.length]).toEqual(['1.0', 1]);
    expect(spans[0]?.start_span).toBeGreaterThan(0);
    expect(await app.metric('spandrel_prefetch_plans_total{outcome="planned"}')).toBe(planned + 1);
  });

  it('lists spans of the tar that takes the place of a layer, and finds names with a dot', async () => {
    const repository = 'inflated/app';
    profiles.give(repository, [PATH]);
    await push(repository, '1', `./${PATH}`);
    const { manifest } = await pullManifest(app, '1', { repository });
    const [artifact] = artifactsOf(await sociIndexOf(app, repository));
    expect(artifact?.annotations).toEqual({
      'com.amazon.soci.image-layer-digest': manifest.layers[1]?.digest,
    });
    if (artifact === undefined) return;
    // A header and six spans of noise come before it; header and data lie in the seventh.
    expect(await readArtifact(app, repository, artifact)).toEqual({
      version: '1.0',
      prefetch_spans: [{ start_span: 6, end_span: 6 }],
    });
  });

  it('is for images that are indexed for the first time: what was answered stays', async () => {
    const repository = 'team/given';
    await push(repository, '1');
    await push(repository, '2');
    const before = await pullManifest(app, '1', { repository });
    expect(artifactsOf(await sociIndexOf(app, repository))).toEqual([]);
    profiles.give(repository, [PATH]);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(before.digest);
    const after = await pullManifest(app, '2', { repository });
    expect(artifactsOf(await sociIndexOf(app, repository, '2'))).toHaveLength(1);
    profiles.give(repository, ['before', 'after']);
    expect((await pullManifest(app, '2', { repository })).digest).toBe(after.digest);
    await app.reload({ ...SETTINGS, SPANDREL_INDEX_PREFETCH: 'off' });
    expect(artifactsOf(await sociIndexOf(app, repository, '2'))).toEqual([]);
    await app.reload(SETTINGS);
    expect((await pullManifest(app, '2', { repository })).digest).toBe(after.digest);
  });

  it('ignores what a single start has read, and repositories whose rule turns it off', async () => {
    profiles.give('team/once', [PATH], 1);
    profiles.give('off/app', [PATH]);
    for (const repository of ['team/once', 'off/app']) {
      await push(repository);
      expect(artifactsOf(await sociIndexOf(app, repository))).toEqual([]);
    }
  });
});

describe('a prefetch artifact that an index has named', () => {
  it('is the same after a restart with another profile, and only for who has its layer', async () => {
    const repository = 'team/lasting';
    profiles.give(repository, [PATH]);
    await push(repository);
    await push('team/other');
    const { digest } = await pullManifest(app, '1', { repository });
    await pullManifest(app, '1', { repository: 'team/other' });
    const [artifact] = artifactsOf(await sociIndexOf(app, repository));
    if (artifact === undefined) throw new Error('the index lists no artifact');
    expect((await requestBlob(app, artifact.digest, {}, { repository: 'team/other' })).status).toBe(404);
    // The same image, whose tag nobody has asked for.
    await push('team/copying');
    await readArtifact(app, 'team/copying', artifact);
    await app[Symbol.asyncDispose]();

    profiles.give(repository, ['before']);
    app = await start();
    await readArtifact(app, repository, artifact);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(digest);
    // The registry of the other repository was asked for it.
    const asked = [...upstream.registry.requests].filter(({ path }) => path.includes(artifact.digest));
    expect(asked.filter(({ path }) => path.includes(repository))).toEqual([]);
  });

  it('is that of all replicas that share a Redis with a key', async () => {
    const redis = cleanup.use(await RedisServer.start());
    const repository = 'team/replicas';
    await push(repository);
    const key = makeSecret('shared key');
    const environment = {
      ...SETTINGS,
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_CACHE_REDIS_KEY: key,
    };
    const replica = async (paths: readonly string[]): Promise<RunningApp> => {
      const given = new GivenProfiles();
      given.give(repository, paths);
      return proxyWith(upstream, { profiles: given, environment, upstream: { host: 'registry.test' } });
    };
    const replicas = [await replica([PATH]), await replica(['before']), await replica(['after', 'lower'])];
    const pulls = replicas.slice(0, 2).map((one) => pullManifest(one, '1', { repository }));
    const digests = new Set((await Promise.all(pulls)).map(({ digest }) => digest));
    expect(digests.size).toBe(1);
    const [first, , third] = replicas;
    if (first === undefined || third === undefined) return;
    const artifacts = artifactsOf(await sociIndexOf(first, repository));
    expect(artifacts.length).toBeGreaterThan(0);
    // Nobody has asked the third one for the tag yet.
    for (const artifact of artifacts) await readArtifact(third, repository, artifact);
    expect(digests).toContain((await pullManifest(third, '1', { repository })).digest);
  });
});
