import { randomBytes } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { ageNotes } from '../helpers/age-notes.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const KEY = makeSecret('shared state');
const INDEX = 'application/vnd.oci.image.index.v1+json';

let upstream: ImageUpstream;
let redis: RedisServer;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
  upstream = cleanup.use(await ImageUpstream.start());
  await upstream.addImage('app', [gzipLayer(tarArchive({ file: Uint8Array.from(randomBytes(200_000)) }))]);
});

afterEach(() => {
  vi.restoreAllMocks();
});

function startReplica(environment: Record<string, string> = {}, hasKey = true): Promise<RunningApp> {
  return proxyWith(upstream, {
    upstream: { host: 'registry.test' },
    environment: {
      SPANDREL_CACHE_REDIS_URL: redis.url,
      ...(hasKey ? { SPANDREL_CACHE_REDIS_KEY: KEY } : {}),
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      SPANDREL_MANIFESTS_TAG_SECONDS: '600',
      SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '600',
      ...environment,
    },
  });
}

function ask(app: RunningApp, path: string, mirrored = false, agent = CONTAINERD): Promise<Response> {
  const headers = { accept: `${OCI}, ${INDEX}`, 'user-agent': agent, 'accept-encoding': 'identity' };
  const url = mirrored ? `${app.url}/v2/app/${path}?ns=registry.test` : `${app.url}/v2/up/app/${path}`;
  return fetch(url, { headers });
}

async function read(app: RunningApp, path: string, mirrored = false): Promise<Buffer> {
  const response = await ask(app, path, mirrored);
  expect(response.status, path).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}

/** Requests of the upstream since the last call, as `METHOD end-of-path`. */
function asked(pattern: RegExp): string[] {
  const { entries } = upstream.registry.requests;
  const lines = entries.map(({ method, path }) => `${method} ${path}`).filter((line) => pattern.test(line));
  upstream.registry.requests.clear();
  return lines;
}

describe('replicas that share a Redis and a key', () => {
  const noLazy = { SPANDREL_INDEX_V1: 'false', SPANDREL_INDEX_V2: 'false' };

  it('resolve a tag once for all of them, and see at most once that there is none', async () => {
    const [first, second] = [await startReplica(noLazy), await startReplica(noLazy)];
    const bytes = await read(first, 'manifests/latest');
    expect(asked(/manifests\/latest/)).not.toEqual([]);
    expect((await ask(first, 'manifests/nothing')).status).toBe(404);
    expect(asked(/manifests\/nothing/)).not.toEqual([]);
    // What replicas tell each other arrives a moment later.
    await vi.waitFor(async () => expect(await redis.command('KEYS *tag:1:*nothing')).toContain('nothing'));
    expect((await read(second, 'manifests/latest')).equals(bytes)).toBe(true);
    expect((await ask(second, 'manifests/nothing')).status).toBe(404);
    expect(asked(/manifests\/(latest|nothing)/)).toEqual([]);
  });

  it('prove once for all of them that a repository has a layer', async () => {
    const [first, second] = [await startReplica(noLazy), await startReplica(noLazy)];
    const manifest = JSON.parse(String(await read(first, 'manifests/latest'))) as {
      layers: { digest: string }[];
    };
    const path = `_soci/layers/${manifest.layers[0]?.digest}/files/file`;
    const bytes = await read(first, path);
    await vi.waitFor(async () => expect(await redis.command('KEYS *proof:1:*')).toContain('sha256'));
    await read(second, 'manifests/latest');
    asked(/./);
    expect((await read(second, path)).equals(bytes)).toBe(true);
    expect(asked(/^HEAD .*blobs/)).toEqual([]);
  });

  it('share neither without a key', async () => {
    const [first, second] = [await startReplica(noLazy, false), await startReplica(noLazy, false)];
    await read(first, 'manifests/latest');
    await ask(first, 'manifests/nothing');
    asked(/./);
    await read(second, 'manifests/latest');
    expect((await ask(second, 'manifests/nothing')).status).toBe(404);
    expect(asked(/manifests\/latest/)).not.toEqual([]);
  });

  it('give a tag the same answer, also if only one of them has found a layer to be too large', async () => {
    const limited = { SPANDREL_LIMITS_MAX_UNCOMPRESSED_BYTES: '300KiB' };
    const large = gzipLayer(tarArchive({ file: Uint8Array.from(randomBytes(400_000)) }));
    const sound = gzipLayer(tarArchive({ file: Uint8Array.from(randomBytes(200_000)) }));
    const [, digest] = await upstream.addImage('app', [sound, large]);
    const [first, second] = [await startReplica(limited), await startReplica(limited)];
    const answer = async (app: RunningApp, agent?: string): Promise<string | null> =>
      (await ask(app, 'manifests/latest', false, agent)).headers.get('docker-content-digest');
    const original = await answer(second, 'curl/8');
    const lean = await answer(first);
    expect(lean).not.toBe(original);
    await vi.waitFor(async () => expect(await redis.command('KEYS *layer-fault:1:*')).toContain(`${digest}`));
    asked(/./);
    // A client that is not lazy waits for nothing.
    expect([await answer(second, 'curl/8'), await answer(second)]).toEqual([lean, lean]);
    expect(asked(/GET .*blobs/)).toEqual([]);
    expect(await second.metric('spandrel_index_builds_total{outcome="failed"}')).toBe(0);
  });

  it('ask once a minute for all of them which indexes a publisher has pushed', async () => {
    const [first, second] = [await startReplica(), await startReplica()];
    const bytes = await read(first, 'manifests/latest');
    expect(asked(/referrers/)).toHaveLength(1);
    expect((await read(second, 'manifests/latest')).equals(bytes)).toBe(true);
    await read(first, 'manifests/latest');
    expect(asked(/referrers/)).toEqual([]);
    await ageNotes(redis, '*pushed:1:*', 61_000);
    for (const app of [second, first, second])
      expect((await read(app, 'manifests/latest')).equals(bytes)).toBe(true);
    expect(asked(/referrers/)).toHaveLength(1);
  });

  it('describe the jobs of each other while they run and when they have ended', async () => {
    const [first, second] = [await startReplica(), await startReplica()];
    const body = JSON.stringify({ image: 'up/app:latest' });
    const headers = { 'content-type': 'application/json' };
    const started = await fetch(`${first.adminUrl}/api/v1/warm`, { method: 'POST', headers, body });
    const { id } = (await started.json()) as { id: string };
    const ask = async (app: RunningApp): Promise<unknown> => {
      const response = await fetch(`${app.adminUrl}/api/v1/jobs/${id}`);
      expect(response.status).toBe(200);
      return response.json();
    };
    expect(await ask(second)).toMatchObject({ id, kind: 'warm', image: 'up/app:latest' });
    await vi.waitFor(async () => expect(await ask(second)).toMatchObject({ state: 'done' }), 10_000);
    expect(await ask(second)).toEqual(await ask(first));
  });

  it('hold back a config until a node has the zTOCs, whichever of them sends what', async () => {
    const [first, second] = [await startReplica(), await startReplica()];
    const topBytes = await read(first, 'manifests/latest', true);
    const begin = (): Promise<Buffer> => read(first, `manifests/${digestOf(topBytes)}`, true);
    await begin();
    const top = JSON.parse(String(topBytes)) as {
      manifests: { digest: string; artifactType?: string }[];
    };
    const image = top.manifests.find(({ artifactType }) => artifactType === undefined)?.digest;
    const soci = top.manifests.find(({ artifactType }) => artifactType !== undefined)?.digest;
    const manifest = JSON.parse(String(await read(first, `manifests/${image}`, true))) as {
      config: { digest: string };
    };
    const index = JSON.parse(String(await read(first, `manifests/${soci}`, true))) as {
      layers: { digest: string }[];
    };
    await vi.waitFor(async () => expect(await redis.command('KEYS *pull:1:*')).toContain(`${soci}`));
    let isAnswered = false;
    const config = read(second, `blobs/${manifest.config.digest}`, true).finally(() => (isAnswered = true));
    // The second replica sends this one, and others after it, while the config waits.
    for (let times = 0; times < 5; times++) await read(second, `manifests/${image}`, true);
    expect(isAnswered).toBe(false);
    for (const { digest } of index.layers) await read(first, `blobs/${digest}`, true);
    expect((await config).byteLength).toBeGreaterThan(0);

    // The node has deleted the image and pulls it again. Only the first replica sees how it begins.
    await ageNotes(redis, '*pull:1:*', 5_000);
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + 5_000);
    const [name = ''] = (await redis.command('KEYS *pull:1:*begin*')).match(/spandrel:.*begin \S+/) ?? [];
    const begun = await redis.command(`GET "${name}"`);
    await begin();
    await vi.waitFor(async () => expect(await redis.command(`GET "${name}"`)).not.toBe(begun));
    await read(first, `manifests/${soci}`, true);
    let isGiven = false;
    const again = read(second, `blobs/${manifest.config.digest}`, true).finally(() => (isGiven = true));
    for (let times = 0; times < 5; times++) await read(second, `manifests/${image}`, true);
    expect(isGiven).toBe(false);
    for (const { digest } of index.layers) await read(first, `blobs/${digest}`, true);
    expect((await again).byteLength).toBeGreaterThan(0);
  });

  it('leave nothing in Redis for longer than it is of use, and no more for each further pull', async () => {
    const app = await startReplica({ SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '30' });
    const pull = async (): Promise<void> => {
      const top = await read(app, 'manifests/latest', true);
      const { manifests } = JSON.parse(String(top)) as { manifests: { digest: string }[] };
      for (const digest of [digestOf(top), ...manifests.map((listed) => listed.digest)])
        await read(app, `manifests/${digest}`, true);
      expect((await ask(app, 'manifests/nothing')).status).toBe(404);
    };
    const names = async (): Promise<string[]> =>
      (await redis.command('KEYS spandrel:*')).match(/^spandrel:.+(?=\r)/gm) ?? [];
    await pull();
    const longest = { 'pull:1:': 600, nothing: 30, 'proof:1:': 600, '': 86_400 };
    for (const [part, seconds] of Object.entries(longest)) {
      const some = (await names()).filter((name) => name.includes(part));
      expect([part, some.length > 0]).toEqual([part, true]);
      for (const name of some) {
        const ttl = Number(/^:(-?\d+)/.exec(await redis.command(`TTL "${name}"`))?.[1]);
        expect([name, ttl > 0 && ttl <= seconds]).toEqual([name, true]);
      }
    }
    // What replicas tell each other may arrive a moment later.
    await vi.waitFor(async () => {
      const before = (await names()).toSorted();
      await pull();
      expect((await names()).toSorted()).toEqual(before);
    });
  });
});
