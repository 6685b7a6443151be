import { crc32 } from 'node:zlib';

import type { ByteRange } from '../../core/byte-range.ts';

/** A piece of a blob recorded in its partial file. It counts only once its CRC-32 is verified. */
export interface StoredPiece extends ByteRange {
  readonly crc32: number;
}

/** Formats one line of a chunk map. It has a checksum, so that a torn line is ignored. */
export function formatPiece({ start, end, crc32: checksum }: StoredPiece): string {
  const fields = `${start} ${end} ${hex(checksum)}`;
  return `${fields} ${hex(crc32(fields))}\n`;
}

/** The first line of a chunk map. */
export function formatMapHead(digest: string, sizeBytes: number): string {
  const fields = `chunks 1 ${digest} ${sizeBytes}`;
  return `${fields} ${hex(crc32(fields))}\n`;
}

/**
 * Parses a chunk map: its pieces in order, without overlaps; `undefined` if it belongs to another digest. Of
 * overlapping pieces the later one counts, because its bytes overwrote the others. Skips damaged lines.
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

/** The pieces that overlap no earlier one of the list, kept or not, sorted by start. */
function withoutOverlaps(newestFirst: readonly StoredPiece[]): StoredPiece[] {
  const kept: StoredPiece[] = [];
  /** Ranges covered so far: disjoint and sorted. */
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

/** Index of the first range of a sorted list that ends after `position`. */
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
