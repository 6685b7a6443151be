import { afterEach, describe, expect, it, vi } from 'vitest';

import type { PublishRule } from '../../../src/config/publish-rule.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/upstreams/aws-environment.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { DockerRegistry } from '../../helpers/upstreams/docker-registry.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { CONTAINERD, OCI } from '../../helpers/lazy-app.ts';
import { MotoServer, motoToken } from '../../helpers/upstreams/moto-server.ts';
import {
  ACCOUNT,
  CONVERTED,
  convertedDigest,
  ended,
  ENVIRONMENT,
  jobs,
  layerBytes,
  post,
  publish,
  pushEvent,
  rulesOf,
  start,
  startApp,
  type Started,
  startJob,
  writes,
} from '../../helpers/publishing-app.ts';
import { pushLayout } from '../../helpers/upstreams/push-layout.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { noteSecret } from '../../helpers/secrets.ts';

const LONG = { timeout: 20_000 };

afterEach(() => void vi.unstubAllEnvs());

describe('POST /api/v1/publish', () => {
  it('pushes the image that `soci convert` makes, and says what was pushed', async () => {
    const { app, registry, digest } = await start();
    const job = await publish(app);
    expect(job).toMatchObject({ kind: 'publish', state: 'done', image: 'up/app:latest' });
    expect(job.published).toMatchObject({ v1: false, tag: 'latest-soci', digest: CONVERTED, attempts: 1 });
    expect(job.published?.blobs).toBeGreaterThan(1);
    expect(job.images).toMatchObject([{ manifest: digest, lazy: true }]);
    expect(registry.content.tags('app')).toEqual(['latest', 'latest-soci']);
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(CONVERTED);
    expect(await app.metric('spandrel_publications_total{outcome="published"}')).toBe(1);
    expect(await app.metric('spandrel_published_bytes_total')).toBe(job.published?.bytes);
  });

  it('uses the indexes that the proxy has: after a pull, no byte of a layer is fetched again', async () => {
    const { app, registry } = await start();
    await ended(app, await startJob(app, 'warm', { image: 'up/app:latest' }));
    const { blobs } = (await (await fetch(`${app.adminUrl}/api/v1/blobs`)).json()) as {
      blobs: { digest: string; sizeBytes: number }[];
    };
    // The store may have evicted the layers: their indexes stay.
    for (const { digest } of blobs)
      expect((await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' })).status).toBe(204);
    registry.requests.clear();
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'done', published: { digest: CONVERTED } });
    const largest = Math.max(...job.layers.map(({ size }) => size));
    expect(layerBytes(registry)).toBeLessThan(largest);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(job.layers.length);
  });

  it('a second publication pushes nothing, also one by another proxy', async () => {
    const { app, registry } = await start();
    await publish(app);
    const other = await startApp(registry, undefined);
    registry.requests.clear();
    for (const proxy of [app, other]) {
      const job = await publish(proxy);
      expect(job).toMatchObject({ state: 'done', published: { digest: CONVERTED, blobs: 0, bytes: 0 } });
      expect(job.published).toMatchObject({ tag: 'latest-soci', unchanged: 'already_published' });
      expect(await proxy.metric('spandrel_publications_total{outcome="unchanged"}')).toBe(1);
    }
    expect(writes(registry)).toBe(0);
  });

  it('`platforms` limits the indexes, `tag` names the result', async () => {
    const { app, registry } = await start({ name: 'platforms-arm64' });
    const wish = { platforms: ['linux/arm64'], tag: 'fargate' };
    const job = await publish(app, wish);
    const wanted = convertedDigest('platforms-arm64');
    expect(job).toMatchObject({ state: 'done', published: { digest: wanted } });
    expect(registry.content.manifest('app', 'fargate').digest).toBe(wanted);
  });

  it.each([true, false])(
    '`v1` pushes indexes with a subject; with a Referrers API: %s',
    async (referrers) => {
      const { app, registry, digest } = await start({ registry: { referrers } });
      const job = await publish(app, { v1: true });
      const [index] = registry.content.referrers('app', digest);
      expect(index).toBeDefined();
      expect(job).toMatchObject({
        state: 'done',
        images: [{ lazy: true, index: index?.digest }],
        published: { v1: true, manifests: 1 },
      });
      expect(job.published).not.toHaveProperty('digest');
      expect(job.published).not.toHaveProperty('tag');
      const fallbackTags = referrers ? undefined : [digest.replace(':', '-')];
      expect(job.published?.fallbackTags).toEqual(fallbackTags);
      expect((await publish(app, { v1: true })).published).toMatchObject({
        unchanged: 'already_published',
        ...(fallbackTags && { fallbackTags }),
      });
      expect(registry.content.tags('app')).not.toContain('latest-soci');
    },
  );

  it('refuses wishes that cannot be met, and asks the registry nothing', async () => {
    const { app, registry } = await start({ rule: { lambda: true } });
    registry.requests.clear();
    for (const [wish, words] of [
      [{ v1: true, tag: 'x' }, 'exclude each other'],
      [{ tag: 'a/b' }, 'not a tag'],
      [{ image: `up/app@sha256:${'0'.repeat(64)}` }, 'needs a tag'],
      [{ tag: 'latest' }, 'lambda: true'],
      [{ image: undefined }, 'image'],
    ] as const) {
      const response = await post(app, 'publish', { image: 'up/app:latest', ...wish });
      expect(response.status).toBe(400);
      expect(await response.text()).toContain(words);
    }
    expect(registry.requests.requestCount).toBe(0);
  });
});

describe('a rule with `when: push`', () => {
  it.each<[PublishRule, string]>([
    [{ when: 'push', suffix: '.lazy' }, 'latest.lazy'],
    [{ when: 'push', tag: 'replace' }, 'latest'],
  ])(
    'an event publishes the image as %o says, and events of our own pushes start nothing',
    async (rule, tag) => {
      const { app, registry, digest } = await start({ rule });
      const job = await ended(app, await startJob(app, 'events/ecr', pushEvent({ tag: 'latest', digest })));
      expect(job).toMatchObject({ kind: 'publish', state: 'done', published: { tag, digest: CONVERTED } });
      expect(registry.content.manifest('app', tag).digest).toBe(CONVERTED);
      const own = [pushEvent({ tag, digest: CONVERTED }), pushEvent({ digest: CONVERTED })];
      for (const event of own)
        expect(await (await post(app, 'events/ecr', event)).json()).toEqual({
          ignored: 'the image is a published one',
        });
      expect(await jobs(app)).toHaveLength(1);
    },
  );

  it('the event of another proxy’s push changes nothing', async () => {
    const { app, registry } = await start({ rule: { when: 'push', tag: 'replace' } });
    await publish(app);
    const other = await startApp(registry, { when: 'push', tag: 'replace' });
    registry.requests.clear();
    const event = pushEvent({ tag: 'latest', digest: CONVERTED });
    const job = await ended(other, await startJob(other, 'events/ecr', event));
    expect(job).toMatchObject({
      state: 'done',
      published: { digest: CONVERTED, wantedTag: 'latest', unchanged: 'already_indexed' },
    });
    expect(job.published).not.toHaveProperty('tag');
    expect([writes(registry), layerBytes(registry)]).toEqual([0, 0]);
    // Whoever asks for it gets the image indexed again, with the same result.
    const asked = await publish(other);
    expect(asked).toMatchObject({ state: 'done', published: { digest: CONVERTED, bytes: 0 } });
    expect(writes(registry)).toBe(0);
  });

  it('an event only warms the image if no rule says otherwise, or if the image has no tag', async () => {
    const { app, registry, digest } = await start();
    const cases: readonly [PublishRule | undefined, object][] = [
      [undefined, { tag: 'latest' }],
      [{}, { tag: 'latest' }],
      [{ when: 'firstPull' }, { tag: 'latest' }],
      [{ when: 'push' }, {}],
    ];
    for (const [rule, fields] of cases) {
      await app.reload({ ...ENVIRONMENT, ...rulesOf(rule) });
      const job = await ended(app, await startJob(app, 'events/ecr', pushEvent({ ...fields, digest })));
      expect(job).toMatchObject({ kind: 'warm', state: 'done' });
    }
    expect(writes(registry)).toBe(0);
  });

  it('publishes to a docker-registry with the token of moto’s ECR', async () => {
    const moto = cleanup.use(await MotoServer.start());
    setAwsEnvironment(STATIC_KEYS);
    const password = noteSecret('password of an ECR token', `${ACCOUNT}-auth-token`);
    const registry = cleanup.use(await DockerRegistry.start({ name: 'AWS', password }));
    const { folder, digest } = cleanup.use(await LayoutUpstream.start('docker-single'));
    const authorization = `Basic ${motoToken(ACCOUNT)}`;
    const repository = `${registry.url}/v2/team/app`;
    const layout = { folder, digest, mediaType: MEDIA_TYPES.dockerManifest };
    await pushLayout(repository, '1.0', layout, authorization);
    const auth = { kind: 'ecr', endpoint: moto.url };
    const app = await startApp(registry, { when: 'push' }, { upstream: { auth } });
    const event = pushEvent({ tag: '1.0', digest, repository: 'team/app' });
    const job = await ended(app, await startJob(app, 'events/ecr', event));
    expect(job).toMatchObject({ state: 'done', published: { tag: '1.0-soci', digest: CONVERTED } });
    const tagged = await fetch(`${repository}/manifests/1.0-soci`, {
      headers: { accept: MEDIA_TYPES.ociIndex, authorization },
    });
    expect(tagged.headers.get('docker-content-digest')).toBe(CONVERTED);
  });
});

describe('a rule with `when: firstPull`', () => {
  async function pull(app: RunningApp, tag: string): Promise<void> {
    const headers = { accept: OCI, 'user-agent': CONTAINERD };
    expect((await fetch(`${app.url}/v2/up/app/manifests/${tag}`, { headers })).status).toBe(200);
  }

  it('the first pull of a tag publishes it, with one download of each layer; later ones do not', async () => {
    const { app, registry } = await start({ rule: { when: 'firstPull' } });
    await pull(app, 'latest');
    await expect.poll(async () => (await jobs(app)).map(({ state }) => state), LONG).toEqual(['done']);
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(CONVERTED);
    const [job] = await jobs(app);
    const sizes = (job?.layers ?? []).reduce((sum, { size }) => sum + size, 0);
    expect(layerBytes(registry)).toBeLessThan(sizes + 10_000);
    await pull(app, 'latest');
    await pull(app, 'latest-soci');
    expect(await jobs(app)).toHaveLength(1);
  });

  it.each([
    [
      'lists SOCI indexes',
      async ({ app, registry }: Started): Promise<void> => {
        await publish(await startApp(registry, { tag: 'replace' }));
        await app.reload({ ...ENVIRONMENT, ...rulesOf({ when: 'firstPull', suffix: '.lazy' }) });
      },
      { digest: CONVERTED, unchanged: 'already_indexed' },
    ],
    [
      'has only small layers',
      ({ app }: Started): Promise<void> =>
        app.reload({
          ...ENVIRONMENT,
          SPANDREL_INDEX_MIN_LAYER_BYTES: '1GiB',
          ...rulesOf({ when: 'firstPull' }),
        }),
      { unchanged: 'nothing_to_index' },
    ],
  ])('says that nothing was pushed, and why, if the image %s', async (_, prepare, published) => {
    const started = await start();
    await prepare(started);
    const { app, registry } = started;
    const tags = registry.content.tags('app');
    registry.requests.clear();
    await pull(app, 'latest');
    await expect.poll(async () => (await jobs(app)).map(({ state }) => state), LONG).toEqual(['done']);
    const [job] = await jobs(app);
    expect(job?.published).toMatchObject({ ...published, blobs: 0, manifests: 0, bytes: 0 });
    expect(job?.published).not.toHaveProperty('tag');
    expect(await app.metric('spandrel_publications_total{outcome="unchanged"}')).toBe(1);
    expect([writes(registry), registry.content.tags('app')]).toEqual([0, tags]);
  });

  it('a tag that moves is published again', async () => {
    const { app, registry } = await start({ rule: { when: 'firstPull', tag: 'replace' } });
    await pull(app, 'latest');
    await expect.poll(async () => (await jobs(app)).map(({ state }) => state), LONG).toEqual(['done']);
    // The tag now points to the published image, which starts no job.
    expect(registry.content.manifest('app', 'latest').digest).toBe(CONVERTED);
    await pull(app, 'latest');
    expect(await jobs(app)).toHaveLength(1);
    const { registry: other } = cleanup.use(await LayoutUpstream.start('five-layers'));
    const { bytes, mediaType } = other.content.manifest('app', 'latest');
    const moved = registry.addManifest('app', 'latest', bytes, mediaType);
    await pull(app, 'latest');
    await expect.poll(() => jobs(app), LONG).toHaveLength(2);
    // Its layers are not there.
    expect(await ended(app, (await jobs(app))[0] ?? { id: moved })).toMatchObject({ state: 'failed' });
  });
});
