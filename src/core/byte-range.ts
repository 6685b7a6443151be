/** Bytes `[start, end)` of a stream that the context names; `start <= end`, both safe integers. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export function rangeLength(range: ByteRange): number {
  return range.end - range.start;
}

/** The overlap of two ranges; empty (`start === end`) if they do not overlap. */
export function intersectRanges(a: ByteRange, b: ByteRange): ByteRange {
  const start = Math.max(a.start, b.start);
  return { start, end: Math.max(start, Math.min(a.end, b.end)) };
}
