import { randomBytes } from 'node:crypto';

import { beforeAll, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { errorCode, KnownRepository, sha512 } from '../helpers/images/known-repository.ts';

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
});

/** A blob of 2,000 bytes that was not requested before. */
async function newBlob(): Promise<{ bytes: Buffer; digest: Digest }> {
  const bytes = randomBytes(2000);
  return { bytes, digest: await known.upstream.addBlob('team/app', new Uint8Array(bytes)) };
}

describe('distribution spec, "Pulling blobs" (end-2)', () => {
  it('a blob is answered whole, with digest, length and the offer of ranges, never a redirect', async () => {
    for (const state of ['absent', 'complete']) {
      const answer = await known.ask(`blobs/${known.blobDigest}`);
      expect(answer.status, state).toBe(200);
      expect(answer.body.equals(known.blob)).toBe(true);
      expect(answer.headers.get('docker-content-digest')).toBe(known.blobDigest);
      expect(answer.headers.get('content-length')).toBe('1500');
      expect(answer.headers.get('accept-ranges')).toBe('bytes');
      expect(answer.headers.get('content-type')).toBe('application/octet-stream');
      expect(answer.headers.get('content-encoding')).toBeNull();
      expect(answer.headers.get('etag')).toBe(`"${known.blobDigest}"`);
    }
  });

  it('an upstream that redirects its blobs does not redirect the client', async () => {
    await using redirected = await KnownRepository.start({ redirectBlobs: true });
    const answer = await redirected.ask(`blobs/${redirected.blobDigest}`);
    expect([answer.status, answer.body.equals(redirected.blob)]).toEqual([200, true]);
  });

  it('a blob by its sha512 digest is answered under it, and verified', async () => {
    const bytes = randomBytes(5000);
    await known.upstream.addBlob('team/app', new Uint8Array(bytes), sha512(bytes));
    for (const _state of ['absent', 'complete']) {
      const answer = await known.ask(`blobs/${sha512(bytes)}`);
      expect([answer.status, answer.body.equals(bytes)]).toEqual([200, true]);
      expect(answer.headers.get('docker-content-digest')).toBe(sha512(bytes));
    }
    const wrong = sha512(randomBytes(10));
    await known.upstream.addBlob('team/app', new Uint8Array(bytes), wrong);
    const refused = await known.ask(`blobs/${wrong}`).catch(() => undefined);
    expect(refused?.status ?? 502).toBe(502);
  });

  it('an empty blob has no bytes and no range', async () => {
    const digest = await known.upstream.addBlob('team/app', new Uint8Array());
    const whole = await known.ask(`blobs/${digest}`);
    expect([whole.status, whole.headers.get('content-length')]).toEqual([200, '0']);
    expect((await known.ask(`blobs/${digest}`, { range: 'bytes=0-' })).status).toBe(416);
  });

  it.each([
    ['an unknown blob', `blobs/${digestOf('no blob')}`, 404, 'BLOB_UNKNOWN'],
    ['a digest that is none', 'blobs/sha256:totallywrong', 400, 'DIGEST_INVALID'],
    ['an algorithm that is none', `blobs/md5:${'0'.repeat(32)}`, 400, 'DIGEST_INVALID'],
    ['a tag', 'blobs/1.0', 400, 'DIGEST_INVALID'],
    ['a name that is none', `/v2/Team/app/blobs/${digestOf('')}`, 400, 'NAME_INVALID'],
  ])('%s is answered with its status and code', async (_what, path, status, code) => {
    const answer = await known.ask(path);
    expect([answer.status, errorCode(answer)]).toEqual([status, code]);
  });
});

describe('RFC 9110, section 14, of blobs of 2,000 bytes that are absent, and complete', () => {
  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=0-1', 0, 2],
    ['bytes=500-1499', 500, 1500],
    ['bytes=500-', 500, 2000],
    ['bytes=-500', 1500, 2000],
    ['bytes=-5000', 0, 2000],
    ['bytes=1500-4000', 1500, 2000],
    ['bytes=0-', 0, 2000],
    ['BYTES=1999-1999', 1999, 2000],
    ['bytes=0-9,5-19', 0, 20],
    ['bytes=1990-9223372036854775807', 1990, 2000],
    ['bytes=-99999999999999999999', 0, 2000],
  ])('%s is answered with 206 and exactly these bytes', async (range, start, end) => {
    const { bytes, digest } = await newBlob();
    for (const _state of ['absent', 'complete']) {
      const answer = await known.ask(`blobs/${digest}`, { range });
      expect(answer.status).toBe(206);
      expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/2000`);
      expect(answer.headers.get('content-length')).toBe(String(end - start));
      expect(answer.body.equals(bytes.subarray(start, end))).toBe(true);
      await known.ask(`blobs/${digest}`);
    }
  });

  it.each([['bytes=500-0'], ['bytes=5000-10000'], ['bytes=2000-'], ['bytes=-0'], ['bytes=2000-2000,3000-']])(
    'the unsatisfiable range %s is answered with 416 and the size',
    async (range) => {
      const { digest } = await newBlob();
      for (const _state of ['absent', 'complete']) {
        const answer = await known.ask(`blobs/${digest}`, { range });
        expect([answer.status, answer.headers.get('content-range')]).toEqual([416, 'bytes */2000']);
        expect(errorCode(answer)).toBe('RANGE_INVALID');
        await known.ask(`blobs/${digest}`);
      }
    },
  );

  it.each([['lines=0-4'], ['bytes=a-b'], ['bytes=-'], ['bytes=5'], ['bytes=']])(
    'the malformed range %s is ignored',
    async (range) => {
      const answer = await known.ask(`blobs/${known.blobDigest}`, { range });
      expect([answer.status, answer.body.equals(known.blob)]).toEqual([200, true]);
    },
  );

  it('several ranges are answered as multipart/byteranges, in the requested order', async () => {
    const { bytes, digest } = await newBlob();
    const answer = await known.ask(`blobs/${digest}`, { range: 'bytes=1000-1009, 0-4, -3' });
    expect(answer.status).toBe(206);
    const [, boundary] =
      /^multipart\/byteranges; boundary=(\S+)$/.exec(answer.headers.get('content-type') ?? '') ?? [];
    const parts = answer.body
      .toString('latin1')
      .split(`--${boundary ?? ''}`)
      .slice(1, -1);
    const read = parts.map((part) => {
      const [head = '', ...body] = part.split('\r\n\r\n');
      return [/content-range: (.*)/.exec(head)?.[1], body.join('\r\n\r\n').slice(0, -2)];
    });
    const slice = (start: number, end: number): string => bytes.toString('latin1', start, end);
    expect(read).toEqual([
      ['bytes 1000-1009/2000', slice(1000, 1010)],
      ['bytes 0-4/2000', slice(0, 5)],
      ['bytes 1997-1999/2000', slice(1997, 2000)],
    ]);
    expect(answer.headers.get('content-length')).toBe(String(answer.body.length));
  });

  it('If-Range with the ETag gives the range, with anything else the whole (13.1.5)', async () => {
    const range = 'bytes=10-19';
    const etag = `"${known.blobDigest}"`;
    const path = `blobs/${known.blobDigest}`;
    expect((await known.ask(path, { range, 'if-range': etag })).status).toBe(206);
    for (const other of [`W/${etag}`, '"other"', 'Sat, 21 Nov 2026 00:00:00 GMT'])
      expect((await known.ask(path, { range, 'if-range': other })).status, other).toBe(200);
  });

  it('If-None-Match with the ETag is answered with 304 and no body (13.1.2)', async () => {
    const answer = await known.ask(`blobs/${known.blobDigest}`, { 'if-none-match': `"${known.blobDigest}"` });
    expect([answer.status, answer.body.length]).toEqual([304, 0]);
  });

  it('HEAD ignores a range, which only GET defines (14.2)', async () => {
    const answer = await known.ask(`blobs/${known.blobDigest}`, { range: 'bytes=0-9' }, 'HEAD');
    expect([answer.status, answer.body.length]).toEqual([200, 0]);
    expect(answer.headers.get('content-range')).toBeNull();
    expect(answer.headers.get('content-length')).toBe('1500');
  });
});
