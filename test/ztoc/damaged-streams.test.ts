import { constants, gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { inflateSpans } from '../../src/spans/span-worker.ts';
import type { ReadSpan } from '../../src/ztoc/span.ts';
import { readZstdFrame } from '../helpers/layers/read-zstd-frame.ts';
import { buildFromBytes, type BuiltLayer } from '../helpers/layers/built-layer.ts';
import { seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';
import { file, tarOf } from '../helpers/layers/tar-members.ts';

const BLOCK_BYTES = 128 * 1024;
const SPAN_BYTES = 65_536;
const text = Buffer.from(seededText(11, 600_000)).toString('latin1');
const tar = tarOf(
  file('a', text.slice(0, 200_000)),
  file('b', text.slice(200_000, 300_000)),
  file('c', text.slice(300_000)),
);
const MEMBER_BYTES = 250_000;
const [first, second] = [gzipSync(tar.subarray(0, MEMBER_BYTES)), gzipSync(tar.subarray(MEMBER_BYTES))];

/** Output of `gzip -dc` for a truncated gzip. */
function gunzipToEnd(cut: Buffer): Buffer {
  return gunzipSync(cut, { finishFlush: constants.Z_SYNC_FLUSH });
}

async function decode(span: ReadSpan, layer: Buffer, { index, indexPath }: BuiltLayer): Promise<Buffer> {
  const compressed = layer.subarray(span.compressed.start, span.compressed.end);
  if (index.compression === 'gzip') {
    const { record } = index.window(span);
    const window = { record, file: [indexPath] };
    const input = { engine: 'wasm', spans: [span], compressed, bits: span.bits, window } as const;
    return Buffer.concat(inflateSpans(input).value);
  }
  const frameStart = span.frame?.uncompressedStart ?? 0;
  const uncompressed = {
    start: span.uncompressed.start - frameStart,
    end: span.uncompressed.end - frameStart,
  };
  async function* from(start: number): AsyncGenerator<Uint8Array, void, void> {
    yield compressed.subarray(start);
  }
  return readZstdFrame({ compressed: from(0), uncompressed, reread: from });
}

/** All readable bytes of a layer, span by span. */
async function readBack(layer: Buffer, built: BuiltLayer): Promise<Buffer> {
  const end = built.index.summary.uncompressedBytes;
  const parts: Buffer[] = [];
  for (const span of await built.index.readSpans({ start: 0, end }))
    parts.push(await decode(span, layer, built));
  return Buffer.concat(parts);
}

async function expectReadable(layer: Buffer, compression: 'gzip' | 'zstd', expected: Buffer): Promise<void> {
  await using built = await buildFromBytes(layer, {
    compression,
    spanBytes: SPAN_BYTES,
    readSpanBytes: 32_768,
    chunkBytes: 256 * 1024,
  });
  const { summary } = built.index;
  expect(summary).toMatchObject({
    layerBytes: layer.length,
    uncompressedBytes: expected.length,
    reason: { code: 'LAYER_CORRUPT' },
  });
  expect([summary.diffId, summary.ztoc, built.build.ztoc]).toEqual([undefined, undefined, undefined]);
  expect((await readBack(layer, built)).equals(expected)).toBe(true);
}

describe('a gzip stream at fault', () => {
  it('a truncated gzip stream is readable up to its end', async () => {
    for (let cut = 300; cut < first.length; cut += 17_919) {
      const layer = first.subarray(0, cut);
      await expectReadable(layer, 'gzip', gunzipToEnd(layer));
    }
    for (let missing = 1; missing <= 8; missing++)
      await expectReadable(first.subarray(0, -missing), 'gzip', tar.subarray(0, MEMBER_BYTES));
  });

  it('a small gzip stream truncated at any byte is readable up to there', async () => {
    const small = gzipSync(tar.subarray(0, 1000));
    for (let cut = 200; cut < small.length; cut++) {
      const layer = small.subarray(0, cut);
      await expectReadable(layer, 'gzip', gunzipToEnd(layer));
    }
  });

  const wrong = (bytes: Buffer, at: number): Buffer => {
    const changed = Buffer.from(bytes);
    changed[bytes.length + at] = (changed[bytes.length + at] ?? 0) ^ 1;
    return changed;
  };

  it.each([
    ['cut in its second header', Buffer.concat([first, second.subarray(0, 7)]), MEMBER_BYTES],
    ['cut in its second trailer', Buffer.concat([first, second.subarray(0, -5)]), tar.length],
    ['with a wrong CRC-32', wrong(first, -8), MEMBER_BYTES],
    ['with a wrong size', wrong(first, -4), MEMBER_BYTES],
    ['with a wrong CRC-32 ahead of another member', Buffer.concat([wrong(first, -8), second]), MEMBER_BYTES],
    ['with something behind it', Buffer.concat([first, second, Buffer.from('garbage')]), tar.length],
    [
      'with something behind zeros',
      Buffer.concat([first, Buffer.alloc(600), Buffer.from('x')]),
      MEMBER_BYTES,
    ],
  ])('is readable up to its fault: %s', async (_, layer, bytes) => {
    await expectReadable(layer, 'gzip', tar.subarray(0, bytes));
  });

  it('a gzip stream is readable up to an invalid block, although valid bytes follow it', async () => {
    const stored = gzipSync(tar.subarray(0, MEMBER_BYTES), { level: 0 });
    // RFC 1951, 3.2.4: five bytes of header before each stored block.
    const length = stored.readUInt16LE(11);
    stored[10 + 5 + length] = 7;
    await expectReadable(stored, 'gzip', tar.subarray(0, length));
  });

  it('a gzip stream that yields no output fails', async () => {
    const broken = [first.subarray(0, 8), Buffer.concat([first.subarray(0, 10), Buffer.from([7])])];
    for (const layer of broken)
      await expect(
        buildFromBytes(layer, { compression: 'gzip', spanBytes: SPAN_BYTES }),
      ).rejects.toMatchObject({ code: 'LAYER_CORRUPT' });
  });
});

describe('a zstd stream at fault', () => {
  const params = { [constants.ZSTD_c_checksumFlag]: 1 };
  const frames = [tar.subarray(0, MEMBER_BYTES), tar.subarray(MEMBER_BYTES)].map((part) =>
    zstdCompressSync(part, { params }),
  );
  const [one = Buffer.alloc(0), other = Buffer.alloc(0)] = frames;
  /** Incompressible: raw blocks of full size (RFC 8878, 3.1.1.2). */
  const raw = Buffer.from(seededBytes(3, 5 * BLOCK_BYTES));
  const rawFrame = zstdCompressSync(raw, { params });

  it.each([
    ['cut in a header', Buffer.concat([one, other.subarray(0, 5)]), MEMBER_BYTES],
    ['cut in its checksum', Buffer.concat([one, other.subarray(0, -2)]), tar.length],
    ['without its checksum', one.subarray(0, -4), MEMBER_BYTES],
    ['with a wrong checksum', Buffer.concat([one.subarray(0, -4), Buffer.alloc(4)]), MEMBER_BYTES],
    [
      'with a wrong checksum ahead of a frame',
      Buffer.concat([one.subarray(0, -4), Buffer.alloc(4), other]),
      MEMBER_BYTES,
    ],
    ['with something behind it', Buffer.concat([one, other, Buffer.from('garbage')]), tar.length],
  ])('is readable up to its fault: %s', async (_, layer, bytes) => {
    await expectReadable(layer, 'zstd', tar.subarray(0, bytes));
  });

  it('a zstd stream is readable up to a damaged, truncated or invalid block', async () => {
    expect(rawFrame.length).toBeGreaterThan(raw.length);
    const fourth = blockStart(rawFrame, 3);
    const damaged = Buffer.from(rawFrame);
    damaged.fill(0xff, fourth, fourth + 3);
    const expected = raw.subarray(0, 3 * BLOCK_BYTES);
    await expectReadable(rawFrame.subarray(0, fourth + 2), 'zstd', expected);
    await expectReadable(damaged, 'zstd', expected);
  });

  it('a zstd stream yields all blocks before one whose content cannot be decoded', async () => {
    const layer = zstdCompressSync(tar);
    const at = blockStart(layer, 2);
    // The tree of the literals: RFC 8878, 4.2.1.
    layer.fill(0xff, at + 8, at + 40);
    await expectReadable(layer, 'zstd', tar.subarray(0, 2 * BLOCK_BYTES));
  });
});

/** Where a block's header is in a frame without a dictionary. */
function blockStart(frame: Buffer, block: number): number {
  const descriptor = frame[4] ?? 0;
  const isSingle = (descriptor & 32) !== 0;
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  let at = 5 + (isSingle ? 0 : 1) + sizeBytes;
  for (let passed = 0; passed < block; passed++) at += 3 + (frame.readUIntLE(at, 3) >> 3);
  return at;
}
