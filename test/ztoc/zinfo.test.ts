import { describe, expect, it } from 'vitest';

import { decodeGzipZinfo, encodeGzipZinfo } from '../../src/ztoc/gzip-zinfo.ts';
import { decodeTarZinfo, encodeTarZinfo, tarMaxSpanId } from '../../src/ztoc/tar-zinfo.ts';

const malformed = expect.objectContaining({ code: 'INDEX_MALFORMED' }) as unknown;
const CHECKPOINT_BYTES = 32_785;

describe('the zinfo of an uncompressed layer', () => {
  it('the zinfo of an uncompressed layer has the bytes of soci-snapshotter', () => {
    const bytes = Buffer.from(encodeTarZinfo({ spanBytes: 4_194_304, sizeBytes: 20_971_520 }));
    expect(bytes.toString('hex')).toBe(
      '140000000000000000000a001c0018000c0004000a000000000040010000000000004000000000000000000002000000',
    );
    expect(decodeTarZinfo(bytes)).toEqual({ spanBytes: 4_194_304, sizeBytes: 20_971_520 });
  });

  it.each([
    [0, -1],
    [1, 0],
    [4096, 0],
    [4097, 1],
  ])('the zinfo of an uncompressed layer of %d bytes has the last span %d', (sizeBytes, last) => {
    expect(tarMaxSpanId({ spanBytes: 4096, sizeBytes })).toBe(last);
  });

  it('the zinfo of an uncompressed layer is refused without a span size', () => {
    expect(() => decodeTarZinfo(encodeTarZinfo({ spanBytes: 0, sizeBytes: 1 }))).toThrow(malformed);
    expect(() => decodeTarZinfo(new Uint8Array(3))).toThrow(malformed);
  });
});

describe('the zinfo of a gzip layer', () => {
  const checkpoints = [
    { compressedOffset: 10, bits: 0, uncompressedOffset: 0 },
    { compressedOffset: 5_000_000_000, bits: 7, uncompressedOffset: 9_000_000_000 },
  ];
  const encoded = encodeGzipZinfo(4096, checkpoints, (id, target) => target.fill(id));

  it('the zinfo of a gzip layer decodes to what was encoded', () => {
    const zinfo = decodeGzipZinfo(encoded);
    expect(zinfo.spanBytes).toBe(4096);
    expect(
      zinfo.checkpoints.map(({ window, ...position }) => ({ ...position, window: window.at(-1) })),
    ).toEqual(checkpoints.map((checkpoint, id) => ({ ...checkpoint, window: id })));
  });

  it('a gzip zinfo of version 1 has its first checkpoint after a plain gzip header', () => {
    const old = Buffer.concat([encoded.subarray(0, 12), encoded.subarray(12 + CHECKPOINT_BYTES)]);
    const [first, second] = decodeGzipZinfo(old).checkpoints;
    expect(first).toEqual({
      compressedOffset: 10,
      bits: 0,
      uncompressedOffset: 0,
      window: new Uint8Array(32_768),
    });
    expect(second).toMatchObject({
      compressedOffset: 5_000_000_000,
      bits: 7,
      uncompressedOffset: 9_000_000_000,
    });
  });

  it.each([
    ['truncated', encoded.subarray(0, -1)],
    ['without a header', encoded.subarray(0, 5)],
    ['empty', encodeGzipZinfo(4096, [], () => undefined)],
    ['with checkpoints out of order', encodeGzipZinfo(4096, checkpoints.toReversed(), () => undefined)],
    [
      'with too many bits',
      encodeGzipZinfo(1, [{ compressedOffset: 10, bits: 8, uncompressedOffset: 0 }], () => undefined),
    ],
  ])('a gzip zinfo is refused when it is %s', (_, bytes) => {
    expect(() => decodeGzipZinfo(bytes)).toThrow(malformed);
  });
});
