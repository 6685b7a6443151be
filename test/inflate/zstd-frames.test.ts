import { constants, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { ZstdFrameScanner, type ZstdFrame, type ZstdPiece } from '../../src/inflate/zstd-frames.ts';
import { chunksOf, seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';
import { skippableFrame } from '../helpers/layers/zstd-corpus.ts';

function scan(stream: Uint8Array, chunkBytes: number): { pieces: ZstdPiece[]; frames: ZstdFrame[] } {
  const scanner = new ZstdFrameScanner();
  const pieces = chunksOf(stream, chunkBytes).flatMap((chunk) => [...scanner.scan(chunk)]);
  scanner.finish();
  return { pieces, frames: pieces.flatMap((piece) => piece.ended ?? []) };
}

const checksummed = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const parts = [
  { kind: 'data', bytes: zstdCompressSync(seededText(1, 400_000)) },
  { kind: 'skippable', bytes: skippableFrame(0, 0) },
  { kind: 'data', bytes: zstdCompressSync(new Uint8Array(0)) },
  { kind: 'data', bytes: zstdCompressSync(new Uint8Array(300_000), checksummed) },
  { kind: 'skippable', bytes: skippableFrame(15, 1000) },
  { kind: 'data', bytes: zstdCompressSync(seededBytes(2, 200_000), checksummed) },
] as const;
const stream = Buffer.concat(parts.map((part) => part.bytes));

describe('ZstdFrameScanner', () => {
  it.each([1, 2, 3, 7, 4096, stream.length])(
    'ZstdFrameScanner finds every frame in chunks of %i bytes',
    (chunkBytes) => {
      let start = 0;
      const expected = parts.map(({ kind, bytes }) => {
        const compressed = { start, end: start + bytes.length };
        start = compressed.end;
        return { kind, compressed };
      });
      const { pieces, frames } = scan(stream, chunkBytes);
      expect(frames).toEqual(expected);
      expect(Buffer.concat(pieces.map((piece) => piece.bytes)).equals(stream)).toBe(true);
    },
  );

  it('ZstdFrameScanner returns no piece of a frame before its header is complete', () => {
    const scanner = new ZstdFrameScanner();
    expect([...scanner.scan(stream.subarray(0, 5))]).toEqual([]);
    expect([...scanner.scan(stream.subarray(5, 300))].map((piece) => piece.bytes.length)).toEqual([5, 295]);
  });

  it.each([
    ['window descriptor above 128 MiB', '28b52ffd0089'],
    ['single segment above 128 MiB', '28b52ffda001000008'],
    ['content size above 2^53', '28b52ffde0ffffffffffffffff'],
    ['a dictionary', '28b52ffd015801'],
    ['a reserved feature', '28b52ffd0858'],
    ['zstd 0.7', '27b52ffd'],
    ['zstd 0.1', '1eb52ffd'],
  ])('ZstdFrameScanner refuses %s with LAYER_UNSUPPORTED', (_what, hex) => {
    expect(() => scan(Buffer.from(hex, 'hex'), 1)).toThrow(
      expect.objectContaining({ code: 'LAYER_UNSUPPORTED' }) as Error,
    );
  });

  it('ZstdFrameScanner accepts a window of 128 MiB and a dictionary ID of zero', () => {
    const scanner = new ZstdFrameScanner();
    expect([...scanner.scan(Buffer.from('28b52ffd018800', 'hex'))]).toHaveLength(1);
  });

  it.each([
    ['an empty stream', ''],
    ['half a magic number', '28b5'],
    ['a cut frame header', '28b52ffd00'],
    ['a cut block', '28b52ffd0058290000ff'],
    ['a missing checksum', '28b52ffd0458010000ffff'],
    ['garbage', '00000000'],
    ['a reserved block type', '28b52ffd0058070000'],
    ['a block above 128 KiB', '28b52ffd0058090010'],
    ['garbage behind a frame', `${zstdCompressSync(Buffer.from('x')).toString('hex')}00000000`],
    ['a cut skippable frame', '502a4d180500000000'],
  ])('ZstdFrameScanner refuses %s with LAYER_CORRUPT', (_what, hex) => {
    expect(() => scan(Buffer.from(hex, 'hex'), 3)).toThrow(
      expect.objectContaining({ code: 'LAYER_CORRUPT' }) as Error,
    );
  });
});
