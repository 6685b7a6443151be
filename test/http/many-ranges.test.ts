import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import type { ByteRange } from '../../src/core/byte-range.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../helpers/clients/http2-client.ts';
import { createCertificates, type ListenerCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { parseMultipart } from '../oracles/parse-multipart.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const MIB = 2 ** 20;
const BLOB = randomBytes(9 * MIB);
/** As a zstd:chunked client asks: ascending, apart, a thousand of them. */
const RANGES: readonly ByteRange[] = Array.from({ length: 1000 }, (_, place) => {
  const start = place * 9000 + (place % 7);
  return { start, end: start + 1 + (place % 200) };
});
/** With numbers of ten digits, as blobs of some GB need. */
const HEADER = `bytes=${RANGES.map(({ start, end }) => `${padded(start)}-${padded(end - 1)}`).join(',')}`;

function padded(position: number): string {
  return String(position).padStart(10, '0');
}

let upstream: ScriptedRegistry;
let certificates: ListenerCertificates;

beforeAll(async () => {
  certificates = cleanup.use(await createCertificates());
  upstream = cleanup.use(await ScriptedRegistry.start());
});

async function start(environment: Record<string, string> = {}): Promise<RunningApp> {
  return proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: { SPANDREL_FILL_CHUNK_BYTES: '1MiB', ...environment },
  });
}

function expectParts(body: Buffer, contentType: string, oracle: Buffer): void {
  const parts = parseMultipart(body, contentType);
  expect(parts.map(({ range }) => range)).toEqual(RANGES);
  for (const { range, bytes } of parts)
    expect(bytes.equals(oracle.subarray(range.start, range.end))).toBe(true);
}

describe('a thousand ranges of a blob in one request', () => {
  it.each([
    ['that the proxy fetches whole', 'true'],
    ['of which it fetches what is read', 'false'],
  ])('are answered with these parts, cold and warm, %s', async (_what, background) => {
    const digest = await upstream.addBlob('app', BLOB);
    const app = await start({ SPANDREL_FILL_BACKGROUND: background });
    upstream.requests.clear();
    for (const _state of ['cold', 'warm']) {
      const response = await fetch(`${app.url}/v2/app/blobs/${digest}`, { headers: { range: HEADER } });
      const body = Buffer.from(await response.arrayBuffer());
      expect(response.status).toBe(206);
      expect(response.headers.get('content-length')).toBe(String(body.byteLength));
      expectParts(body, response.headers.get('content-type') ?? '', BLOB);
    }
    // Nine chunks, of which a waiting reader may have some cut in two.
    expect(upstream.requests.requestCount).toBeLessThan(20);
  });

  it('are answered over HTTP/2 too', async () => {
    const digest = await upstream.addBlob('app', BLOB);
    const { cert, key } = certificates.server;
    const app = await start({ SPANDREL_LISTEN_TLS_CERT: cert, SPANDREL_LISTEN_TLS_KEY: key });
    const session = await openHttp2(app.url, certificates.ca);
    const { status, headers, body } = await askHttp2(session, `/v2/app/blobs/${digest}`, { range: HEADER });
    expect(status).toBe(206);
    expectParts(body, String(headers['content-type']), BLOB);
  });
});

it('a thousand ranges of a decompressed layer are answered, each span decompressed once', async () => {
  const tar = tarArchive({ noise: BLOB });
  const digest = await upstream.addBlob('app', gzipSync(tar, { level: 1 }));
  const app = await start({ SPANDREL_CACHE_MEMORY_BYTES: '8MiB' });
  const layer = `${app.url}/v2/app/_soci/layers/${digest}`;
  await (await fetch(`${layer}/spans`)).arrayBuffer();
  const response = await fetch(`${layer}/tar`, { headers: { range: HEADER } });
  expect(response.status).toBe(206);
  const body = Buffer.from(await response.arrayBuffer());
  expectParts(body, response.headers.get('content-type') ?? '', tar);
  // Once for the index, once for the parts.
  const inflated = await app.metric('spandrel_inflate_bytes_total{engine="wasm"}');
  expect(inflated).toBeLessThan(2.1 * tar.byteLength);
});
