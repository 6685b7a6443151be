import { crc32 } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { inflateSpanNatively } from './native-span.ts';
import type { SpanInput } from './engine.ts';

// Deflate blocks without output, field by field as they are sent: numbers from their lowest bit, Huffman codes from their highest.
/** A fixed block (RFC 1951, 3.2.6) with nothing but its end code: 10 bits. */
const EMPTY_FIXED_BLOCK = ['0', '10', '0000000'].join('');
/** A dynamic block (3.2.7) with nothing but its end code. Having two distance codes, it is 91 bits long, an odd number. */
const EMPTY_DYNAMIC_BLOCK = [
  ['0', '01', '00000', '10000', '0111'], // 257 literal and length codes, 2 distance codes, 18 code length codes
  ['000000', '100', '000'.repeat(14), '100'], // of these, "11 to 138 zeros" and "length 1" have one bit each
  ['1', '1111111', '1', '1101011'], // 138 and 118 codes that are not used
  ['0', '00'], // length 1: the end code and both distance codes
  ['0'], // the end code
]
  .flat()
  .join('');

/** Output bytes per input byte that DEFLATE cannot exceed: a match of 258 bytes takes at least two bits. */
const MAX_RATIO = 1032;
const MAX_MATCH_BYTES = 258;

/** Raw deflate data from a checkpoint on, ready for a decoder that starts at a byte's first bit. */
export interface SpanStream {
  /** When the checkpoint lies in mid-byte, empty blocks are put in front. Bytes behind the span may follow. */
  readonly deflate: Uint8Array;
  /** Preset dictionary; empty for none. */
  readonly window: Uint8Array;
  /** At least 1. */
  readonly uncompressedLength: number;
}

/**
 * Decode a span with Node's zlib where that can do it, else with `resume`.
 * `resume` must stop at `uncompressedLength`, pass over the ends of gzip members (trailer unchecked, then any further members
 * as gzip) and throw SPAN_CORRUPT; its verdict counts.
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
 * Make sure that the input can be a span with output. What comes from a foreign index must not decide about an allocation unchecked.
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

/** @throws SpandrelError SPAN_CORRUPT if the output of the span has another CRC-32 than it must have */
export function checkSpanSum(input: SpanInput, sum: number): void {
  if (input.crc32 !== undefined && input.crc32 !== sum)
    throw new SpandrelError('SPAN_CORRUPT', 'a decoded span does not match its checksum');
}

/**
 * `compressed` without the bits that belong to the block before. In place of zlib's `inflatePrime`, which neither Node nor pako
 * has, empty blocks fill the first bytes up to the bit where the span begins.
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
