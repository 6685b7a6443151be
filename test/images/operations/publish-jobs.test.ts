import { afterEach, describe, expect, it, vi } from 'vitest';

import type { PublishRule } from '../../../src/config/publish-rule.ts';
import type { Digest } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import type { ImageJobView } from '../../../src/images/operations/image-job-view.ts';
import { GoldenImages } from '../../oracles/golden-images.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/aws-environment.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { DockerRegistry } from '../../helpers/docker-registry.ts';
import { LayoutUpstream } from '../../helpers/layout-upstream.ts';
import { CONTAINERD, OCI, SPAN_BYTES } from '../../helpers/lazy-app.ts';
import { MotoServer, motoToken } from '../../helpers/moto-server.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { pushLayout } from '../../helpers/push-layout.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { noteSecret } from '../../helpers/secrets.ts';
import type { ScriptedRegistry, ScriptedRegistryOptions } from '../../registry/scripted-registry.ts';

const ACCOUNT = '123456789012';
const ECR_HOST = `${ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com`;
const ENVIRONMENT = {
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
  SPANDREL_UPSTREAM_RETRIES: '0',
  SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000',
};
/** What `soci convert` makes of the golden image `docker-single`. */
const CONVERTED = convertedDigest('docker-single');

function convertedDigest(name: string): Digest {
  const [run] = GoldenImages.small().image(name).runs;
  if (run === undefined || 'error' in run.expected) throw new Error(`soci does not convert ${name}`);
  return run.expected.topIndex.digest as Digest;
}

interface StartOptions {
  readonly rule?: PublishRule;
  readonly name?: string;
  readonly registry?: ScriptedRegistryOptions;
  readonly upstream?: object;
  readonly endsAtWork?: boolean;
}

interface Started {
  readonly app: RunningApp;
  readonly registry: ScriptedRegistry;
  /** What the image's tag points to. */
  readonly digest: Digest;
  /** Pauses between attempts, in ms. */
  readonly pauses: number[];
}

/** A proxy in front of a registry that has a golden image as `app:latest`. */
async function start({
  rule,
  name = 'docker-single',
  registry: options = {},
  ...rest
}: StartOptions = {}): Promise<Started> {
  const upstream = cleanup.use(await LayoutUpstream.start(name, 'layout', { pushes: {}, ...options }));
  const { registry, digest } = upstream;
  const pauses: number[] = [];
  const app = await startApp(registry, rule, { ...rest, pauses });
  return { app, registry, digest, pauses };
}

function startApp(
  upstream: { readonly url: string },
  rule: PublishRule | undefined,
  more: Pick<StartOptions, 'upstream' | 'endsAtWork'> & { readonly pauses?: number[] } = {},
): Promise<RunningApp> {
  const { pauses = [], endsAtWork = false } = more;
  return proxyWith(upstream, {
    upstream: { host: ECR_HOST, ...more.upstream },
    endsAtWork,
    pause: async (pauseMs) => void pauses.push(pauseMs),
    environment: { ...ENVIRONMENT, ...rulesOf(rule) },
  });
}

function rulesOf(rule: PublishRule | undefined): Record<string, string> {
  return rule === undefined ? {} : { SPANDREL_INDEX_RULES: JSON.stringify([{ publish: rule }]) };
}

async function post(app: RunningApp, path: string, body: object): Promise<Response> {
  return fetch(`${app.adminUrl}/api/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

async function startJob(app: RunningApp, path: string, body: object): Promise<ImageJobView> {
  const response = await post(app, path, body);
  expect(response.status).toBe(202);
  return (await response.json()) as ImageJobView;
}

async function jobs(app: RunningApp): Promise<ImageJobView[]> {
  return ((await (await fetch(`${app.adminUrl}/api/v1/jobs`)).json()) as { jobs: ImageJobView[] }).jobs;
}

async function ended(app: RunningApp, { id }: Pick<ImageJobView, 'id'>): Promise<ImageJobView> {
  const read = async (): Promise<ImageJobView> =>
    (await (await fetch(`${app.adminUrl}/api/v1/jobs/${id}`)).json()) as ImageJobView;
  await expect.poll(async () => (await read()).state, { timeout: 20_000 }).not.toBe('running');
  return read();
}

/** Publishes `app:latest`, and returns the job at its end. */
async function publish(app: RunningApp, wish: object = {}): Promise<ImageJobView> {
  return ended(app, await startJob(app, 'publish', { image: 'up/app:latest', ...wish }));
}

/** An EventBridge event of a push to `app`. */
function pushEvent(fields: { readonly tag?: string; readonly digest?: Digest; repository?: string }): object {
  const { tag, digest, repository = 'app' } = fields;
  return {
    'detail-type': 'ECR Image Action',
    account: ACCOUNT,
    region: 'eu-west-1',
    detail: {
      'action-type': 'PUSH',
      result: 'SUCCESS',
      'repository-name': repository,
      'image-digest': digest,
      'image-tag': tag,
    },
  };
}

function writes(registry: ScriptedRegistry): number {
  return registry.requests.entries.filter(({ method }) => !['GET', 'HEAD'].includes(method)).length;
}

/** Bytes of blobs that the registry has sent. */
function layerBytes(registry: ScriptedRegistry): number {
  return registry.requests.entries
    .filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'))
    .reduce((sum, { bytesSent }) => sum + bytesSent, 0);
}

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

describe('a publication that fails', () => {
  it('is tried again with growing pauses, a bounded number of times, and says why it failed', async () => {
    const { app, registry, pauses } = await start();
    registry.faults.add({ match: { method: 'POST' }, action: { kind: 'status', status: 503 } });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'failed', error: { code: 'UPSTREAM_UNREACHABLE' } });
    expect(job.published?.attempts).toBe(5);
    expect(pauses).toEqual([1_000, 4_000, 16_000, 64_000]);
    expect(registry.content.tags('app')).toEqual(['latest']);
    expect(await app.metric('spandrel_publications_total{outcome="failed"}')).toBe(1);
  });

  it('ends well when a later attempt does, and indexes no layer twice', async () => {
    const { app, registry, pauses } = await start();
    registry.faults.add({
      match: { method: 'PUT', path: /manifests/ },
      times: 2,
      action: { kind: 'status', status: 503 },
    });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'done', published: { attempts: pauses.length + 1 } });
    expect(job).not.toHaveProperty('error');
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(CONVERTED);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(job.layers.length);
  });

  it.each([
    ['the registry refuses the push', 403, 'DENIED'],
    ['the registry dislikes the content', 400, 'PUSH_REFUSED'],
  ])('is not tried again if that cannot help: %s', async (_, status, code) => {
    const { app, registry, pauses } = await start();
    registry.faults.add({ match: { method: 'POST' }, action: { kind: 'status', status } });
    expect(await publish(app)).toMatchObject({ state: 'failed', error: { code } });
    expect(pauses).toEqual([]);
  });

  it('follows a tag that moves meanwhile', async () => {
    const { app, registry } = await start();
    const { registry: other } = cleanup.use(await LayoutUpstream.start('five-layers'));
    const moved = other.content.manifest('app', 'latest');
    const parsed = JSON.parse(Buffer.from(moved.bytes).toString()) as {
      config: { digest: Digest };
      layers: { digest: Digest }[];
    };
    for (const { digest } of [parsed.config, ...parsed.layers])
      await registry.addBlob('app', Uint8Array.from(other.content.blob('app', digest).bytes), digest);
    registry.faults.add({
      match: { method: 'POST' },
      times: 1,
      action: { kind: 'hold', until: Promise.resolve() },
      onUse: () => void registry.addManifest('app', 'latest', moved.bytes, moved.mediaType),
    });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'done', images: [{ manifest: moved.digest }] });
    expect(job.published?.digest).not.toBe(CONVERTED);
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(job.published?.digest);
  });

  it('without an indexable layer it pushes nothing', async () => {
    const { app, registry } = await start({ name: 'no-layers' });
    expect(await publish(app)).toMatchObject({ state: 'failed', error: { code: 'INDEX_EMPTY' } });
    expect(writes(registry)).toBe(0);
  });

  it('a stop does not wait for a registry that hangs', async () => {
    const { app, registry } = await start({ endsAtWork: true });
    registry.faults.add({
      match: { method: 'POST' },
      action: { kind: 'hold', until: new Promise(() => undefined) },
    });
    await startJob(app, 'publish', { image: 'up/app:latest' });
    await registry.requests.waitFor(({ method }) => method === 'POST');
    await app[Symbol.asyncDispose]();
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
    expect(job).toMatchObject({ state: 'done', published: { digest: CONVERTED } });
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
    await expect.poll(async () => (await jobs(app)).map(({ state }) => state)).toEqual(['done']);
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(CONVERTED);
    const [job] = await jobs(app);
    const sizes = (job?.layers ?? []).reduce((sum, { size }) => sum + size, 0);
    expect(layerBytes(registry)).toBeLessThan(sizes + 10_000);
    await pull(app, 'latest');
    await pull(app, 'latest-soci');
    expect(await jobs(app)).toHaveLength(1);
  });

  it('a tag that moves is published again', async () => {
    const { app, registry } = await start({ rule: { when: 'firstPull', tag: 'replace' } });
    await pull(app, 'latest');
    await expect.poll(async () => (await jobs(app)).map(({ state }) => state)).toEqual(['done']);
    // The tag now points to the published image, which starts no job.
    await expect.poll(() => registry.content.manifest('app', 'latest').digest).toBe(CONVERTED);
    await pull(app, 'latest');
    expect(await jobs(app)).toHaveLength(1);
    const { registry: other } = cleanup.use(await LayoutUpstream.start('five-layers'));
    const { bytes, mediaType } = other.content.manifest('app', 'latest');
    const moved = registry.addManifest('app', 'latest', bytes, mediaType);
    await pull(app, 'latest');
    await expect.poll(() => jobs(app)).toHaveLength(2);
    // Its layers are not there.
    expect(await ended(app, (await jobs(app))[0] ?? { id: moved })).toMatchObject({ state: 'failed' });
  });
});
