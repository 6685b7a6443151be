import { crc32 } from 'node:zlib';

import type { ByteRange } from '../core/byte-range.ts';

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
  const match = /^(\d{1,15}) (\d{1,15}) ([0-9a-f]{8}) [0-9a-f]{8}$/.exec(line);
  if (match === null) return undefined;
  const [, start, end, checksum = ''] = match;
  const piece = { start: Number(start), end: Number(end), crc32: Number.parseInt(checksum, 16) };
  return piece.start < piece.end && `${line}\n` === formatPiece(piece) ? piece : undefined;
}

/** Keeps the earlier ones of the list; the result is in the order of their starts. */
function withoutOverlaps(pieces: readonly StoredPiece[]): StoredPiece[] {
  const ranked = pieces
    .map((piece, rank) => ({ piece, rank }))
    .toSorted((a, b) => a.piece.start - b.piece.start);
  const kept: { piece: StoredPiece; rank: number }[] = [];
  for (const candidate of ranked) {
    let isCovered = false;
    for (
      let last = kept.at(-1);
      last !== undefined && last.piece.end > candidate.piece.start;
      last = kept.at(-1)
    ) {
      isCovered = last.rank < candidate.rank;
      if (isCovered) break;
      kept.pop();
    }
    if (!isCovered) kept.push(candidate);
  }
  return kept.map(({ piece }) => piece);
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0');
}
