import { crc32 } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { inflateSpanNatively } from './inflate-span-natively.ts';
import type { SpanInput } from './engine.ts';

// Deflate blocks without output, as sequences of bits: numbers from their lowest bit, Huffman codes from
// their highest.
/** A fixed block (RFC 1951, 3.2.6) that has only its end code: 10 bits. */
const EMPTY_FIXED_BLOCK = ['0', '10', '0000000'].join('');
/**
 * A dynamic block (3.2.7) that has only its end code. With two distance codes it has 91 bits, an odd number.
 */
const EMPTY_DYNAMIC_BLOCK = [
  ['0', '01', '00000', '10000', '0111'], // 257 literals and lengths, 2 distances, 18 code lengths
  ['000000', '100', '000'.repeat(14), '100'], // "11 to 138 zeros" and "length 1" have one bit each
  ['1', '1111111', '1', '1101011'], // 138 and 118 unused codes
  ['0', '00'], // length 1: the end code and both distance codes
  ['0'], // the end code
]
  .flat()
  .join('');

/** Most output bytes per input byte in DEFLATE: a match of 258 bytes takes at least two bits. */
const MAX_RATIO = 1032;
const MAX_MATCH_BYTES = 258;

/** Raw deflate data from a checkpoint, for a decoder that starts at the first bit of a byte. */
export interface SpanStream {
  /** Empty blocks precede it if the checkpoint lies within a byte. Bytes after the span may follow. */
  readonly deflate: Uint8Array;
  /** Preset dictionary; empty for none. */
  readonly window: Uint8Array;
  /** At least 1. */
  readonly uncompressedLength: number;
}

/**
 * Decodes a span with Node's zlib, or, if that fails, with `resume`.
 * @param resume must stop at `uncompressedLength`, skip trailers of gzip members, decode further members, and
 * throw SPAN_CORRUPT for a damaged span
 * @throws SpandrelError SPAN_CORRUPT
 */
export function inflateSpanWith(
  input: SpanInput,
  resume: (stream: SpanStream) => Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const { compressed, bits, window, uncompressedLength } = input;
  if (uncompressedLength === 0) return new Uint8Array(0);
  checkSpanInput(input);
  const stream = { deflate: alignToByte(compressed, bits), window, uncompressedLength };
  const span = inflateSpanNatively(stream) ?? resume(stream);
  if (input.crc32 !== undefined) checkSpanSum(input, crc32(span));
  return span;
}

/**
 * Checks that the input can be a span. Numbers of a foreign index must be checked before memory is allocated
 * for them.
 * @throws SpandrelError SPAN_CORRUPT
 */
export function checkSpanInput({ compressed, bits, uncompressedLength }: SpanInput): void {
  const possible = compressed.length * MAX_RATIO + MAX_MATCH_BYTES;
  if (!(uncompressedLength > 0 && uncompressedLength <= possible) || !Number.isInteger(uncompressedLength)) {
    throw new SpandrelError(
      'SPAN_CORRUPT',
      `${compressed.length} compressed bytes cannot give ${uncompressedLength}`,
    );
  }
  if (!Number.isInteger(bits) || bits < 0 || bits > 7 || (bits > 0 && compressed.length === 0)) {
    throw new SpandrelError('SPAN_CORRUPT', `a span cannot begin with ${bits} leftover bits`);
  }
}

/** @throws SpandrelError SPAN_CORRUPT if `sum` is not the expected CRC-32 of the span */
export function checkSpanSum(input: SpanInput, sum: number): void {
  if (input.crc32 !== undefined && input.crc32 !== sum)
    throw new SpandrelError('SPAN_CORRUPT', 'a decoded span does not match its checksum');
}

/**
 * `compressed` without the bits of the preceding block. Neither Node nor pako has zlib's `inflatePrime`, so
 * empty blocks fill the first bytes up to the bit where the span begins.
 */
function alignToByte(compressed: Uint8Array, bits: number): Uint8Array {
  if (bits === 0) return compressed;
  const first = compressed[0] ?? 0;
  let sent = bits % 2 === 0 ? '' : EMPTY_DYNAMIC_BLOCK;
  while ((sent.length + bits) % 8 !== 0) sent += EMPTY_FIXED_BLOCK;
  for (let bit = 8 - bits; bit < 8; bit++) sent += (first >> bit) & 1;

  const filler = sent.length / 8;
  const aligned = new Uint8Array(filler + compressed.length - 1);
  for (let at = 0; at < sent.length; at++) {
    if (sent[at] === '1') aligned[at >> 3] = (aligned[at >> 3] ?? 0) | (1 << (at & 7));
  }
  aligned.set(compressed.subarray(1), filler);
  return aligned;
}
