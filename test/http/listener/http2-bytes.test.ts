import { createHash } from 'node:crypto';
import type { ClientHttp2Session } from 'node:http2';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import type { DemoImage, DemoLayer } from '../../../src/demo/demo-image.ts';
import type { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { startDemoRegistry } from '../../helpers/upstreams/demo-upstream.ts';
import { askHttp2, type Http2Answer, openHttp2 } from '../../helpers/clients/http2-client.ts';
import { createCertificates } from '../../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const SEED = Number(process.env['SPANDREL_TEST_SEED'] ?? 11);
const RANGES = 40;
const LAYERS = ['base', 'configuration', 'assets', 'pages'];

let upstream: ScriptedRegistry & { image: DemoImage };
let session: ClientHttp2Session;

beforeAll(async () => {
  const certificates = cleanup.use(await createCertificates());
  upstream = cleanup.use(await startDemoRegistry());
  const app = await proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: {
      SPANDREL_LISTEN_TLS_CERT: certificates.server.cert,
      SPANDREL_LISTEN_TLS_KEY: certificates.server.key,
    },
  });
  session = await openHttp2(cleanup.use(app).url, certificates.ca);
});

/** A layer with what it must be, compressed and by Node's own decoders. */
function layerNamed(name: string): DemoLayer & { blob: Buffer; tar: Buffer } {
  const layer = upstream.image.layers.find((candidate) => candidate.name === name);
  const bytes = upstream.image.blobs.find(({ digest }) => digest === layer?.digest)?.bytes;
  if (layer === undefined || bytes === undefined) throw new Error(`no layer ${name}`);
  const blob = Buffer.from(bytes);
  if (layer.mediaType.endsWith('+gzip')) return { ...layer, blob, tar: gunzipSync(blob) };
  return { ...layer, blob, tar: layer.mediaType.endsWith('+zstd') ? zstdDecompressSync(blob) : blob };
}

function ask(path: string, headers: Record<string, string> = {}): Promise<Http2Answer> {
  return askHttp2(session, `/v2/demo/app/${path}`, headers);
}

async function askJson<T>(path: string): Promise<T> {
  return JSON.parse((await ask(path)).body.toString()) as T;
}

/** The first and the last byte, and ranges of all lengths, all at once on the one connection. */
async function expectRanges(path: string, oracle: Buffer): Promise<void> {
  const random = seededRandom(SEED);
  const picked = Array.from({ length: RANGES }, () => {
    const start = Math.floor(random() * oracle.byteLength);
    return { start, end: start + 1 + Math.floor(random() ** 4 * (oracle.byteLength - start)) };
  });
  const size = oracle.byteLength;
  const ranges = [{ start: 0, end: 1 }, { start: size - 1, end: size }, { start: 0, end: size }, ...picked];
  await Promise.all(
    ranges.map(async ({ start, end }) => {
      const { status, headers, body } = await ask(path, { range: `bytes=${start}-${end - 1}` });
      const what = `seed ${SEED}: ${path} [${start}, ${end})`;
      // Before all of a layer has been decompressed nobody knows its size.
      expect(headers['content-range'], what).toMatch(new RegExp(`^bytes ${start}-${end - 1}/(${size}|\\*)$`));
      expect(status, what).toBe(206);
      expect(headers['content-length'], what).toBe(String(end - start));
      expect(body.equals(oracle.subarray(start, end)), what).toBe(true);
    }),
  );
  expect((await ask(path, { range: 'bytes=-7' })).body.equals(oracle.subarray(-7))).toBe(true);
  expect((await ask(path, { range: `bytes=${size}-` })).status).toBe(416);
  const several = await ask(path, { range: 'bytes=1-5,101-180' });
  expect([several.status, several.body.includes(oracle.subarray(101, 181))]).toEqual([206, true]);
}

describe.each(LAYERS)('over HTTP/2, of layer %s', (name) => {
  it('decompressed bytes are those of the layer, while it is being indexed and afterwards', async () => {
    const { digest, tar } = layerNamed(name);
    expect((await ask(`_soci/layers/${digest}/tar`)).body.equals(tar)).toBe(true);
    await expectRanges(`_soci/layers/${digest}/tar`, tar);
  });

  it('so are those of the blob', async () => {
    const { digest, blob } = layerNamed(name);
    expect((await ask(`blobs/${digest}`)).body.equals(blob)).toBe(true);
    await expectRanges(`blobs/${digest}`, blob);
  });

  it('so are those of spans, which together are the layer', async () => {
    const { digest, tar } = layerNamed(name);
    const { spans } = await askJson<{ spans: { id: number }[] }>(`_soci/layers/${digest}/spans`);
    const parts = await Promise.all(spans.map(({ id }) => ask(`_soci/layers/${digest}/spans/${id}`)));
    expect(Buffer.concat(parts.map(({ body }) => body)).equals(tar)).toBe(true);
  });

  it('so are those of files', async () => {
    const { digest, tar } = layerNamed(name);
    const { files } = await askJson<{
      files: { name: string; type: string; size: number; offset: number }[];
    }>(`_soci/layers/${digest}/files?limit=300`);
    const regular = files.filter(({ type, size }) => type === 'reg' && size > 0).slice(0, 50);
    expect(regular.length).toBeGreaterThan(0);
    await Promise.all(
      regular.map(async (file) => {
        const path = `_soci/layers/${digest}/files/${file.name.split('/').map(encodeURIComponent).join('/')}`;
        const oracle = tar.subarray(file.offset, file.offset + file.size);
        expect((await ask(path)).body.equals(oracle), file.name).toBe(true);
        const half = Math.floor(file.size / 2);
        const { body } = await ask(path, { range: `bytes=${half}-` });
        expect(body.equals(oracle.subarray(half)), file.name).toBe(true);
      }),
    );
  });
});

it.each(['middle', 'spanning', 'program', 'model'] as const)(
  'over HTTP/2, the file %s of the merged image has the bytes that it was made with',
  async (which) => {
    const { path, size, sha256 } = upstream.image.files[which];
    const url = `_soci/images/latest/files/${path.split('/').map(encodeURIComponent).join('/')}`;
    const { body, headers } = await ask(url);
    expect(createHash('sha256').update(body).digest('hex')).toBe(sha256);
    const half = Math.floor(size / 2);
    const rest = await ask(url, { range: `bytes=${half}-`, 'if-range': String(headers['etag']) });
    expect([rest.status, rest.body.equals(body.subarray(half))]).toEqual([206, true]);
    const head = await ask(url, { ':method': 'HEAD' });
    expect([head.headers['content-length'], head.body.byteLength]).toEqual([String(size), 0]);
  },
);
