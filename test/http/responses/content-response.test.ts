import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

import { describe, expect, it } from 'vitest';

import type { ByteRange } from '../../../src/core/byte-range.ts';
import type { RegistryResponse } from '../../../src/http/responses/registry-response.ts';
import { contentResponse } from '../../../src/http/responses/content-response.ts';
import type { Content } from '../../../src/images/contents/content.ts';

const BYTES = randomBytes(5000);

function content(reads: ByteRange[] = []): Content {
  return {
    sizeBytes: BYTES.byteLength,
    mediaType: 'application/octet-stream',
    etag: 'tag',
    isImmutable: false,
    source: 'disk',
    async *read(range) {
      reads.push(range);
      yield BYTES.subarray(range.start, range.end);
    },
  };
}

function get(headers: IncomingHttpHeaders = {}): Parameters<typeof contentResponse>[1] {
  return { method: 'GET', headers };
}

async function readBody(response: RegistryResponse): Promise<Buffer> {
  if (typeof response.body !== 'function') return Buffer.from(response.body ?? []);
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('contentResponse', () => {
  it('sends the whole content with a strong ETag and Accept-Ranges', async () => {
    const response = contentResponse(content(), get());
    expect(response).toMatchObject({
      status: 200,
      headers: { etag: '"tag"', 'accept-ranges': 'bytes', 'content-length': 5000 },
    });
    expect(await readBody(response)).toEqual(BYTES);
  });

  it('reads only the requested range', async () => {
    const reads: ByteRange[] = [];
    const response = contentResponse(content(reads), get({ range: 'bytes=500-1499' }));
    expect(response).toMatchObject({
      status: 206,
      headers: { 'content-range': 'bytes 500-1499/5000', 'content-length': 1000 },
    });
    expect(await readBody(response)).toEqual(BYTES.subarray(500, 1500));
    expect(reads).toEqual([{ start: 500, end: 1500 }]);
  });

  it('sends several ranges as multipart/byteranges, as long as its Content-Length', async () => {
    const response = contentResponse(content(), get({ range: 'bytes=0-9,100-109' }));
    const boundary = /boundary=(.*)$/.exec(String(response.headers['content-type']))?.[1] ?? '';
    const body = await readBody(response);
    expect(body.byteLength).toBe(response.headers['content-length']);
    const parts = body.toString('latin1').split(`--${boundary}`);
    expect(parts).toHaveLength(4);
    expect(parts[1]).toBe(
      `\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes 0-9/5000\r\n\r\n${BYTES.toString('latin1', 0, 10)}\r\n`,
    );
    expect(parts[2]).toContain('content-range: bytes 100-109/5000');
    expect(parts[3]).toBe('--\r\n');
  });

  it('refuses a range outside of the content with 416 and the size', () => {
    const response = contentResponse(content(), get({ range: 'bytes=5000-' }));
    expect(response).toMatchObject({ status: 416, headers: { 'content-range': 'bytes */5000' } });
  });

  it.each([
    ['"tag"', 206],
    ['"other"', 200],
    ['W/"tag"', 200],
    ['Sat, 21 Nov 2026 06:00:00 GMT', 200],
  ])('If-Range %s gives %i', (ifRange, status) => {
    expect(contentResponse(content(), get({ range: 'bytes=0-9', 'if-range': ifRange })).status).toBe(status);
  });

  it.each([['"tag"'], ['W/"tag"'], ['"x", "tag"'], ['*']])(
    'If-None-Match %s gives 304 without a body',
    (header) => {
      const response = contentResponse(content(), get({ 'if-none-match': header }));
      expect(response.status).toBe(304);
      expect(response.body).toBeUndefined();
    },
  );

  it('ignores Range and If-Range in a HEAD', () => {
    const headers = { range: 'bytes=0-9', 'if-range': '"tag"' };
    const response = contentResponse(content(), { method: 'HEAD', headers });
    expect(response).toMatchObject({ status: 200, headers: { 'content-length': 5000 } });
  });
});
