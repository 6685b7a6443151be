import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { DigestFiles } from '../../src/blobs/shelves/digest-files.ts';
import { type Digest, digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { addPackedImage, type PackedLayer, seededGzipLayer } from '../helpers/images/packed-image.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { RunningApp, type RunningAppOptions } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SHARED_KEY = makeSecret('shared key');
const SEED = 7;
const ROUNDS = 10;
const LAYERS = 3;
const LAYER_BYTES = 512 * 1024;
const READERS = 50;
const SOCI_INDEX = 'com.amazon.soci.index-digest';
const INDEXED = 'spandrel_index_builds_total{outcome="indexed"}';

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
});

function options(more: Partial<RunningAppOptions> = {}): RunningAppOptions {
  return {
    upstreams: [{ name: 'up', url: upstream.url }],
    ...more,
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      ...more.environment,
    },
  };
}

async function startApp(more: Partial<RunningAppOptions> = {}): Promise<RunningApp> {
  return cleanup.use(await RunningApp.start(options(more)));
}

async function addImage(tag: string, seed: number, count = LAYERS): Promise<readonly PackedLayer[]> {
  const layers = Array.from({ length: count }, (_, place) => seededGzipLayer(seed + place, LAYER_BYTES));
  await addPackedImage(upstream, 'app', tag, layers);
  return layers;
}

/** All ways to find or use an index, in turn, with another first one for each reader. */
async function readColdImage(
  url: string,
  tag: string,
  layers: readonly PackedLayer[],
  reader: number,
): Promise<void> {
  const random = seededRandom(SEED + reader);
  const layer = layers[reader % layers.length];
  if (layer === undefined) throw new Error('there are layers');
  const ways = [
    async () => {
      const start = Math.floor(random() * (layer.tar.length - 1));
      const end = Math.min(layer.tar.length, start + 1 + Math.floor(random() * 100_000));
      const answer = await fetch(`${url}/_soci/layers/${layer.digest}/tar`, {
        headers: { range: `bytes=${start}-${end - 1}` },
      });
      expect(answer.status).toBe(206);
      expect(Buffer.from(await answer.arrayBuffer()).equals(layer.tar.subarray(start, end))).toBe(true);
    },
    async () => {
      const answer = await fetch(`${url}/_soci/layers/${layer.digest}`);
      expect(answer.status).toBe(200);
      const { state, ztoc } = (await answer.json()) as { state: string; ztoc?: { digest: string } };
      expect(state).toMatch(/^(?:absent|building|indexed)$/);
      if (state === 'indexed') expect(ztoc?.digest).toMatch(/^sha256:/);
    },
    async () => {
      const answer = await fetch(`${url}/manifests/${tag}`, {
        headers: { accept: OCI, 'user-agent': CONTAINERD },
      });
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    },
    async () => {
      const answer = await fetch(`${url}/_soci/images/${tag}/files/noise-none`);
      expect(answer.status).toBe(404);
      expect(await answer.text()).toContain('FILE_UNKNOWN');
    },
    async () => {
      const answer = await fetch(`${url}/_soci/layers/${layer.digest}/spans`);
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    },
  ];
  for (let step = 0; step < ways.length; step++) await ways[(reader + step) % ways.length]?.();
}

/** Names of the files below a folder of the store. */
async function filesBelow(root: string, ...folder: string[]): Promise<string[]> {
  const entries = await readdir(join(root, ...folder), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

/** Has a layer indexed and its zTOC named to a client. */
async function describeZtoc(app: RunningApp, layer: PackedLayer): Promise<{ digest: Digest; size: number }> {
  const url = `${app.url}/v2/up/app`;
  await (await fetch(`${url}/_soci/layers/${layer.digest}/spans`)).arrayBuffer();
  const headers = { accept: OCI, 'user-agent': CONTAINERD };
  await (await fetch(`${url}/manifests/latest`, { headers })).arrayBuffer();
  const described = await (await fetch(`${url}/_soci/layers/${layer.digest}`)).json();
  return (described as { ztoc: { digest: Digest; size: number } }).ztoc;
}

async function readZtoc(app: RunningApp, layer: PackedLayer): Promise<void> {
  const { digest, size } = await describeZtoc(app, layer);
  const blob = await fetch(`${app.url}/v2/up/app/blobs/${digest}`);
  expect(blob.status).toBe(200);
  const bytes = Buffer.from(await blob.arrayBuffer());
  expect(bytes.length).toBe(size);
  expect(digestOf(bytes)).toBe(digest);
}

describe('an index and its zTOC', () => {
  it('50 readers of a cold image, in every way, cause one index per layer, and none fails', async () => {
    const app = await startApp();
    const url = `${app.url}/v2/up/app`;
    for (let round = 0; round < ROUNDS; round++) {
      const tag = `round-${round}`;
      const layers = await addImage(tag, 1000 * SEED + LAYERS * round);
      await Promise.all(
        Array.from({ length: READERS }, (_, reader) => readColdImage(url, tag, layers, reader)),
      );
      expect(await app.metric(INDEXED), `after round ${round}, seed ${SEED}`).toBe(LAYERS * (round + 1));
    }
    expect(await app.metric('spandrel_index_builds_total{outcome="failed"}')).toBe(0);
    expect(await filesBelow(app.root, 'indexes', 'layers', 'tmp')).toEqual([]);
    expect(await filesBelow(app.root, 'indexes', 'layers')).toHaveLength(LAYERS * ROUNDS);
  }, 120_000);

  it('after a restart, an index whose zTOC is gone is built again', async () => {
    const [layer] = await addImage('latest', 1, 1);
    if (layer === undefined) throw new Error('there is a layer');
    const root = await temporaryFolder();
    const restart = (): Promise<RunningApp> => RunningApp.start(options({ root }));
    {
      await using first = await restart();
      await readZtoc(first, layer);
    }
    await rm(join(root, 'indexes', 'ztocs'), { recursive: true });
    {
      await using second = await restart();
      await readZtoc(second, layer);
      expect(await second.metric(INDEXED)).toBe(1);
    }
    await using third = await restart();
    await readZtoc(third, layer);
    expect(await third.metric(INDEXED)).toBe(0);
  });

  it.each([
    ['is gone', (path: string) => rm(path)],
    ['is damaged', (path: string) => writeFile(path, 'no gzip')],
  ])(
    'a zTOC that %s is made again while the proxy runs, once for all clients that know it',
    async (_, lose) => {
      const [layer] = await addImage('latest', 5, 1);
      if (layer === undefined) throw new Error('there is a layer');
      const app = await startApp();
      const { digest, size } = await describeZtoc(app, layer);
      await lose(new DigestFiles(join(app.root, 'indexes', 'ztocs')).path(digest));
      const url = `${app.url}/v2/up/app`;
      const told = Array.from({ length: 20 }, async (_unused, reader) => {
        const encoding = { 'accept-encoding': reader % 2 === 0 ? 'gzip' : 'identity' };
        const answer = await fetch(`${url}/blobs/${digest}`, { headers: encoding });
        const bytes = Buffer.from(await answer.arrayBuffer());
        expect([answer.status, bytes.length, digestOf(bytes)]).toEqual([200, size, digest]);
      });
      await Promise.all(told);
      expect(await app.metric(INDEXED)).toBe(2);
      const stranger = await fetch(`${app.url}/v2/up/other/blobs/${digest}`);
      expect(stranger.status).toBe(404);
    },
  );

  it('a tag leads to index and zTOC whatever manifests the store has lost', async () => {
    const [layer] = await addImage('latest', 6, 1);
    if (layer === undefined) throw new Error('there is a layer');
    const app = await startApp();
    const url = `${app.url}/v2/up/app`;
    await describeZtoc(app, layer);
    const resolve = async (): Promise<string> => {
      const headers = { accept: OCI, 'user-agent': CONTAINERD };
      const answer = await fetch(`${url}/manifests/latest`, { headers });
      return ((await answer.json()) as { annotations: Record<string, string> }).annotations[SOCI_INDEX] ?? '';
    };
    const sociIndex = await resolve();
    await rm(join(app.root, 'manifests'), { recursive: true });
    expect(await resolve()).toBe(sociIndex);
    const answer = await fetch(`${url}/manifests/${sociIndex}`);
    expect([answer.status, digestOf(await answer.text())]).toEqual([200, sociIndex]);
  });

  it('an index that cannot be renamed is not published, and made by the next request', async () => {
    const [layer] = await addImage('latest', 2, 1);
    if (layer === undefined) throw new Error('there is a layer');
    const app = await startApp();
    const folder = dirname(new DigestFiles(join(app.root, 'indexes', 'layers')).path(layer.digest));
    await mkdir(dirname(folder), { recursive: true });
    await writeFile(folder, 'in the way');
    const url = `${app.url}/v2/up/app/_soci/layers/${layer.digest}`;
    const refused = await fetch(`${url}/spans`);
    expect([refused.status, await refused.text()]).toEqual([500, expect.stringContaining('STORE_FAILED')]);
    expect(await filesBelow(app.root, 'indexes', 'layers')).toEqual([basename(folder)]);
    await rm(folder);
    expect((await fetch(`${url}/spans`)).status).toBe(200);
    await readZtoc(app, layer);
  });

  it('a start removes zTOCs without an index, and no others', async () => {
    const [layer, other] = await addImage('latest', 4, 2);
    if (layer === undefined || other === undefined) throw new Error('there are layers');
    const root = await temporaryFolder();
    const start = (spanBytes: number): Promise<RunningApp> =>
      RunningApp.start(options({ root, environment: { SPANDREL_INDEX_SPAN_BYTES: String(spanBytes) } }));
    const ztocs = (): Promise<string[]> => filesBelow(root, 'indexes', 'ztocs');
    {
      await using first = await start(65_536);
      await readZtoc(first, layer);
      await readZtoc(first, other);
    }
    const before = await ztocs();
    expect(before).toHaveLength(2);
    {
      // Existing indexes name their zTOCs until they are replaced.
      await using second = await start(32_768);
      await expect.poll(ztocs).toEqual(before);
      await readZtoc(second, layer);
      await readZtoc(second, other);
    }
    expect(await ztocs()).toHaveLength(4);
    // As after a kill between the two steps: a zTOC without its index.
    await rm(new DigestFiles(join(root, 'indexes', 'layers')).path(other.digest));
    await using third = await start(32_768);
    await expect.poll(ztocs).toHaveLength(1);
    const kept = await ztocs();
    expect(before).not.toContain(kept[0]);
    await readZtoc(third, layer);
    await readZtoc(third, other);
    expect([await third.metric(INDEXED), (await ztocs()).length]).toEqual([1, 2]);
  });

  it('a new index replaces an unreadable one, which stays until then', async () => {
    const [layer] = await addImage('latest', 3, 1);
    if (layer === undefined) throw new Error('there is a layer');
    const app = await startApp();
    const name = new DigestFiles(join(app.root, 'indexes', 'layers')).path(layer.digest);
    await mkdir(dirname(name), { recursive: true });
    await writeFile(name, 'of another version');
    const url = `${app.url}/v2/up/app/_soci/layers/${layer.digest}`;
    expect(await (await fetch(url)).json()).toMatchObject({ state: 'absent' });
    expect(await filesBelow(app.root, 'indexes', 'layers')).toHaveLength(1);
    const tar = await fetch(`${url}/tar`);
    expect(Buffer.from(await tar.arrayBuffer()).equals(gunzipSync(layer.packed))).toBe(true);
    await readZtoc(app, layer);
    expect(await app.metric(INDEXED)).toBe(1);
  });

  it.each([
    ['with a key', { SPANDREL_CACHE_REDIS_KEY: SHARED_KEY }, '*:'],
    ['without one', {}, ''],
  ])(
    'replicas share index and zTOC as one value (%s), and ignore a damaged one',
    async (_what, key, prefix) => {
      const redis = cleanup.use(await RedisServer.start());
      const environment = { SPANDREL_CACHE_REDIS_URL: redis.url, ...key };
      const layers = await addImage('latest', 4);
      const first = await startApp({ environment });
      for (const layer of layers) await readZtoc(first, layer);
      const listed = await redis.command(`KEYS spandrel:1:${prefix}layer-index:*`);
      const keys = [...listed.matchAll(/spandrel:1:\S*layer-index:\S+/g)].map(([found]) => found);
      expect(keys).toHaveLength(LAYERS);
      const second = await startApp({ environment });
      for (const layer of layers) await readZtoc(second, layer);
      // With a key, shared indexes are accepted. Without one, they are compared with the layers, which is no
      // build either.
      expect(await second.metric(INDEXED)).toBe(0);
      const upstreamBytes = await second.metric('spandrel_upstream_bytes_total{upstream="up"}');
      const layerBytes = layers.reduce((sum, { packed }) => sum + packed.byteLength, 0);
      if (prefix === '') expect(upstreamBytes).toBeGreaterThan(layerBytes);
      else expect(upstreamBytes).toBeLessThan(layerBytes);

      const [cut = '', changed = '', gone = ''] = keys;
      const script = `return redis.call('set',KEYS[1],string.sub(redis.call('get',KEYS[1]),1,-2))`;
      await redis.command(`EVAL "${script}" 1 ${cut}`);
      await redis.command(`SETRANGE ${changed} 60 other`);
      await redis.command(`DEL ${gone}`);
      const third = await startApp({ environment });
      for (const layer of layers) await readZtoc(third, layer);
      expect(await third.metric(INDEXED)).toBe(LAYERS);
      expect(await third.metric('spandrel_index_builds_total{outcome="failed"}')).toBe(0);
      expect(await third.metric('spandrel_redis_errors_total{op="seal"}')).toBe(prefix === '' ? 0 : 2);
    },
  );

  it('without a key, an index from Redis is neither used nor stored', async () => {
    const redis = cleanup.use(await RedisServer.start());
    const environment = { SPANDREL_CACHE_REDIS_URL: redis.url };
    const [layer, other] = await addImage('latest', 3, 2);
    if (layer === undefined || other === undefined) throw new Error('there are layers');
    const first = await startApp({ environment });
    for (const one of [layer, other]) await readZtoc(first, one);
    const [name] =
      /spandrel:1:layer-index:\S+/.exec(await redis.command('KEYS spandrel:1:layer-index:*')) ?? [];
    const keyOf = ({ digest }: typeof layer): string => (name ?? '').replace(/sha256:.*$/, digest);
    // A valid index of another layer, and one that claims to be of this layer.
    const plant = `local v = redis.call('get',KEYS[2]) return redis.call('set',KEYS[1],(string.gsub(v,ARGV[2],ARGV[1])))`;
    await redis.command(`EVAL "${plant}" 2 ${keyOf(layer)} ${keyOf(other)} ${layer.digest} ${other.digest}`);
    const second = await startApp({ environment });
    await readZtoc(second, layer);
    expect(await second.metric(INDEXED)).toBe(1);
    // The right value replaces the planted one.
    const third = await startApp({ environment });
    await readZtoc(third, layer);
    expect(await third.metric(INDEXED)).toBe(0);
  });
});
