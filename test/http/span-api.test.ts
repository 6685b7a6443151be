import { createHash } from 'node:crypto';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import type { DemoImage, DemoLayer } from '../../src/demo/demo-image.ts';
import type { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';

const SEED = Number(process.env['SPANDREL_TEST_SEED'] ?? 7);
const RANGES = 40;

let upstream: ScriptedRegistry & { image: DemoImage };
let app: RunningApp;

beforeAll(async () => {
  upstream = cleanup.use(await startDemoRegistry());
  app = await proxyWith(upstream, { upstream: { name: 'demo' } });
});

function layerNamed(name: string): DemoLayer {
  const layer = upstream.image.layers.find((candidate) => candidate.name === name);
  if (layer === undefined) throw new Error(`no layer ${name}`);
  return layer;
}

function urlOf(layer: DemoLayer): string {
  return `${app.url}/v2/demo/app/_soci/layers/${layer.digest}`;
}

/** The decompressed layer by Node's own decoders. */
function decompress(layer: DemoLayer): Buffer {
  const bytes =
    upstream.image.blobs.find(({ digest }) => digest === layer.digest)?.bytes ?? new Uint8Array(0);
  if (layer.mediaType.endsWith('+gzip')) return gunzipSync(bytes);
  return layer.mediaType.endsWith('+zstd') ? zstdDecompressSync(bytes) : Buffer.from(bytes);
}

async function get(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: Headers; body: Buffer }> {
  const response = await fetch(url, { headers });
  return {
    status: response.status,
    headers: response.headers,
    body: Buffer.from(await response.arrayBuffer()),
  };
}

async function getJson<T>(url: string): Promise<T> {
  const { status, body } = await get(url);
  expect(status, body.toString()).toBe(200);
  return JSON.parse(body.toString()) as T;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describe.each(['base', 'dependencies', 'configuration', 'assets', 'pages', 'program'])(
  'the span API of layer %s',
  (name) => {
    it('gives the decompressed layer, all of it while it is being indexed and afterwards', async () => {
      const layer = layerNamed(name);
      const expected = sha256(decompress(layer));
      expect(sha256((await get(`${urlOf(layer)}/tar`)).body)).toBe(expected);
      const { spans } = await getJson<{ spans: unknown[] }>(`${urlOf(layer)}/spans`);
      expect(spans.length).toBeGreaterThan(0);
      const again = await get(`${urlOf(layer)}/tar`);
      expect(sha256(again.body)).toBe(expected);
      expect(again.headers.get('etag')).toBe(`"${layer.diffId}"`);
      expect(again.headers.get('accept-ranges')).toBe('bytes');
    });

    it('tells what it knows of the layer', async () => {
      const layer = layerNamed(name);
      const isIndexable = !layer.mediaType.endsWith('+zstd');
      const description = await getJson<Record<string, unknown>>(urlOf(layer));
      expect(description).toMatchObject({
        digest: layer.digest,
        size: layer.size,
        diffId: layer.diffId,
        state: isIndexable ? 'indexed' : 'readable',
        uncompressedSize: layer.uncompressedBytes,
      });
      expect('ztoc' in description).toBe(isIndexable);
      expect('reason' in description).toBe(!isIndexable);
    });

    it('gives any range of it', async () => {
      const layer = layerNamed(name);
      const tar = decompress(layer);
      const random = seededRandom(SEED);
      const { spans } = await getJson<{ spans: { uncompressed: { start: number; end: number } }[] }>(
        `${urlOf(layer)}/spans`,
      );
      const edges = spans.flatMap(({ uncompressed: { start, end } }) => [
        [start, start + 1],
        [Math.max(0, start - 1), Math.min(tar.byteLength, start + 1)],
        [end - 1, end],
      ]);
      const picked = Array.from({ length: RANGES }, () => {
        const start = Math.floor(random() * tar.byteLength);
        return [start, start + 1 + Math.floor(random() ** 4 * (tar.byteLength - start))];
      });
      for (const [start = 0, end = 0] of [
        ...edges,
        ...picked,
        [0, tar.byteLength],
        [tar.byteLength - 1, tar.byteLength],
      ]) {
        const { status, headers, body } = await get(`${urlOf(layer)}/tar`, {
          range: `bytes=${start}-${end - 1}`,
        });
        expect(status).toBe(206);
        expect(headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/${tar.byteLength}`);
        expect(body.equals(tar.subarray(start, end)), `seed ${SEED}: [${start}, ${end})`).toBe(true);
      }
      expect((await get(`${urlOf(layer)}/tar`, { range: 'bytes=-7' })).body.equals(tar.subarray(-7))).toBe(
        true,
      );
      const beyond = await get(`${urlOf(layer)}/tar`, { range: `bytes=${tar.byteLength}-` });
      expect(beyond.status).toBe(416);
      expect(beyond.headers.get('content-range')).toBe(`bytes */${tar.byteLength}`);
    });

    it('gives its spans one by one, which together are the layer', async () => {
      const layer = layerNamed(name);
      const { spans } = await getJson<{
        spans: { id: number; uncompressed: { start: number; end: number } }[];
      }>(`${urlOf(layer)}/spans`);
      const parts: Buffer[] = [];
      for (const { id, uncompressed } of spans) {
        const { body } = await get(`${urlOf(layer)}/spans/${id}`);
        expect(body.byteLength).toBe(uncompressed.end - uncompressed.start);
        parts.push(body);
      }
      expect(sha256(Buffer.concat(parts))).toBe(sha256(decompress(layer)));
      expect((await get(`${urlOf(layer)}/spans/${spans.length}`)).status).toBe(404);
    });

    it('lists its files in pages that give every file once, and reads those that are asked for', async () => {
      const layer = layerNamed(name);
      const tar = decompress(layer);
      const all: {
        name: string;
        type: string;
        size: number;
        mode: number;
        modeText: string;
        offset: number;
      }[] = [];
      for (let after: string | undefined; ;) {
        const query = new URLSearchParams({ limit: '300', ...(after === undefined ? {} : { after }) });
        const page = await getJson<{ files: typeof all; next?: string }>(
          `${urlOf(layer)}/files?${query.toString()}`,
        );
        all.push(...page.files);
        after = page.next;
        if (after === undefined) break;
      }
      expect(all).toHaveLength(layer.entries);
      expect(all.filter(({ mode, modeText }) => parseInt(modeText, 8) !== (mode & 0o7777))).toEqual([]);
      const random = seededRandom(SEED);
      const regular = all.filter(({ type }) => type === 'reg');
      for (let pick = 0; pick < 20; pick++) {
        const file = regular[Math.floor(random() * regular.length)];
        if (file === undefined) break;
        const path = file.name.split('/').map(encodeURIComponent).join('/');
        const { body } = await get(`${urlOf(layer)}/files/${path}`);
        expect(
          body.equals(tar.subarray(file.offset, file.offset + file.size)),
          `seed ${SEED}: ${file.name}`,
        ).toBe(true);
      }
    });
  },
);

describe('the file API', () => {
  it.each(['middle', 'spanning', 'program', 'model'] as const)(
    'reads the file %s of the merged image and of its layer',
    async (which) => {
      const { path, layer, size, sha256: expected } = upstream.image.files[which];
      const encoded = path.split('/').map(encodeURIComponent).join('/');
      for (const url of [
        `${app.url}/v2/demo/app/_soci/images/latest/files/${encoded}`,
        `${app.url}/v2/demo/app/_soci/layers/${layer}/files/${encoded}`,
      ]) {
        const { status, body, headers } = await get(url);
        expect(status).toBe(200);
        expect(body.byteLength).toBe(size);
        expect(sha256(body)).toBe(expected);
        const half = await get(url, {
          range: `bytes=${Math.floor(size / 2)}-`,
          'if-range': headers.get('etag') ?? '',
        });
        expect(half.status).toBe(206);
        expect(half.body.equals(body.subarray(Math.floor(size / 2)))).toBe(true);
        expect((await get(url, { range: 'bytes=0-0', 'if-range': '"other"' })).status).toBe(200);
        expect((await get(url, { 'if-none-match': headers.get('etag') ?? '' })).status).toBe(304);
        const head = await fetch(url, { method: 'HEAD' });
        expect(head.headers.get('content-length')).toBe(String(size));
        expect((await head.arrayBuffer()).byteLength).toBe(0);
      }
    },
  );

  it('says where bytes come from: decompressed first, from memory then', async () => {
    const { path } = upstream.image.files.middle;
    const url = `${app.url}/v2/demo/app/_soci/images/latest/files/${path}`;
    await get(url);
    const inflated = await app.metric('spandrel_inflate_bytes_total{engine="wasm"}');
    const manifest = upstream.image.manifests[0]?.digest ?? '';
    await get(`${app.url}/v2/demo/app/_soci/images/${manifest}/files/${path}`);
    const asked = upstream.requests.requestCount;
    const { headers } = await get(`${app.url}/v2/demo/app/_soci/images/${manifest}/files/${path}`);
    expect(headers.get('cache-status')).toBe('Spandrel; hit; detail=memory');
    expect(await app.metric('spandrel_inflate_bytes_total{engine="wasm"}')).toBe(inflated);
    expect(upstream.requests.requestCount).toBe(asked);
  });

  it('lists directories, and knows both platforms', async () => {
    const root = await getJson<{ path: string; entries: { name: string; modeText: string }[] }>(
      `${app.url}/v2/demo/app/_soci/images/latest/files/?platform=linux/arm64`,
    );
    expect(root.path).toBe('');
    expect(root.entries.map(({ name }) => name)).toEqual(expect.arrayContaining(['app', 'etc', 'usr']));
    expect(root.entries.some(({ name }) => name.startsWith('.wh.'))).toBe(false);
    expect(root.entries.find(({ name }) => name === 'tmp')?.modeText).toBe('1777');
    const unknown = await get(`${app.url}/v2/demo/app/_soci/images/latest/files/?platform=windows/amd64`);
    expect([unknown.status, unknown.body.toString()]).toEqual([
      404,
      expect.stringContaining('PLATFORM_UNKNOWN'),
    ]);
  });

  it('says what is no file', async () => {
    const missing = await get(`${app.url}/v2/demo/app/_soci/images/latest/files/no/such/file`);
    expect([missing.status, missing.body.toString()]).toEqual([404, expect.stringContaining('FILE_UNKNOWN')]);
    const directory = await get(`${urlOf(layerNamed('base'))}/files/usr`);
    expect([directory.status, directory.body.toString()]).toEqual([
      409,
      expect.stringContaining('FILE_NOT_REGULAR'),
    ]);
  });
});
