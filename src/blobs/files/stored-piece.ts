import { crc32 } from 'node:zlib';

import type { ByteRange } from '../../core/byte-range.ts';

/** Bytes of a blob that are said to be in its partial file; they count once their CRC-32 has been found right. */
export interface StoredPiece extends ByteRange {
  readonly crc32: number;
}

/** One line of a chunk map, with a checksum of its own: a torn line is no line. */
export function formatPiece({ start, end, crc32: checksum }: StoredPiece): string {
  const fields = `${start} ${end} ${hex(checksum)}`;
  return `${fields} ${hex(crc32(fields))}\n`;
}

/** First line of a chunk map. */
export function formatMapHead(digest: string, sizeBytes: number): string {
  const fields = `chunks 1 ${digest} ${sizeBytes}`;
  return `${fields} ${hex(crc32(fields))}\n`;
}

/**
 * What a chunk map says, in order and without overlaps; `undefined` if it is not one of `digest`. Of pieces that overlap the later
 * one counts, since its bytes were written over the others. Lines that are damaged are left out.
 */
export function parseMap(
  text: string,
  digest: string,
): { readonly sizeBytes: number; readonly pieces: StoredPiece[] } | undefined {
  const [head = '', ...lines] = text.split('\n');
  const [, size = ''] = /^chunks 1 \S+ (\d{1,15}) [0-9a-f]{8}$/.exec(head) ?? [];
  const sizeBytes = Number(size);
  if (size === '' || `${head}\n` !== formatMapHead(digest, sizeBytes)) return undefined;
  const newestFirst: StoredPiece[] = [];
  for (const line of lines.toReversed()) {
    const piece = parsePiece(line);
    if (piece !== undefined && piece.end <= sizeBytes) newestFirst.push(piece);
  }
  return { sizeBytes, pieces: withoutOverlaps(newestFirst) };
}

function parsePiece(line: string): StoredPiece | undefined {
  const match = /^((\d{1,15}) (\d{1,15}) ([0-9a-f]{8})) ([0-9a-f]{8})$/.exec(line);
  if (match === null) return undefined;
  const [, fields = '', start, end, checksum = '', check = ''] = match;
  if (Number.parseInt(check, 16) !== crc32(fields)) return undefined;
  const piece = { start: Number(start), end: Number(end), crc32: Number.parseInt(checksum, 16) };
  return piece.start < piece.end ? piece : undefined;
}

/** Those that no earlier one of the list touches, kept or not; in the order of their starts. */
function withoutOverlaps(newestFirst: readonly StoredPiece[]): StoredPiece[] {
  const kept: StoredPiece[] = [];
  /** What the pieces looked at so far cover: disjoint, in order. */
  const covered: { start: number; end: number }[] = [];
  for (const piece of newestFirst) {
    const first = firstEndingBehind(covered, piece.start);
    let last = first;
    let { start, end } = piece;
    for (let other = covered[last]; other !== undefined && other.start < piece.end; other = covered[++last]) {
      start = Math.min(start, other.start);
      end = Math.max(end, other.end);
    }
    if (last === first) kept.push(piece);
    covered.splice(first, last - first, { start, end });
  }
  return kept.toSorted((a, b) => a.start - b.start);
}

/** Index of the first range of an ordered list that ends behind `position`. */
function firstEndingBehind(ranges: readonly { readonly end: number }[], position: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.end ?? 0) <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0');
}
