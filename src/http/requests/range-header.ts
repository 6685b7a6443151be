import type { ByteRange } from '../../core/byte-range.ts';

/**
 * With more descending ranges than this, the response has them in the order of the content. Each step back
 * may cost a second decompression (RFC 9110, section 14.2). Ascending ranges cost no more than the whole,
 * so only the size of the header bounds them.
 */
const MAX_DESCENDING = 16;

/** One less than the largest exact integer, so that the end after it is exact too. */
const MAX_POSITION = Number.MAX_SAFE_INTEGER - 1;

/** What a Range header means for content of a known size. */
export type RangeHeader =
  | { readonly kind: 'whole' }
  | { readonly kind: 'ranges'; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: 'unsatisfiable' };

/**
 * Resolve a Range header (RFC 9110, section 14.1) against a size. Clamps ends, joins overlapping ranges and
 * drops ranges outside of the content, so the ranges of the result never overlap. An unknown unit or a
 * malformed header means the whole. The RFC lets a server ignore `a-b` with `b < a`; as other registries
 * do, it is unsatisfiable here.
 */
export function resolveRange(header: string | undefined, sizeBytes: number): RangeHeader {
  const specs = parseSpecs(header);
  if (specs === undefined) return { kind: 'whole' };
  const ranges: ByteRange[] = [];
  for (const [first, last] of specs) {
    const start = first ?? Math.max(0, sizeBytes - (last ?? 0));
    const end = first === undefined || last === undefined ? sizeBytes : Math.min(last + 1, sizeBytes);
    if (start < end) ranges.push({ start, end });
  }
  const [head, ...tail] = joinOverlapping(ranges);
  return head === undefined ? { kind: 'unsatisfiable' } : { kind: 'ranges', ranges: [head, ...tail] };
}

/**
 * The range of a header `a-b` with one range; `undefined` for all headers whose meaning depends on the
 * size.
 */
export function parseClosedRange(header: string | undefined): ByteRange | undefined {
  const [only, ...more] = parseSpecs(header) ?? [];
  if (only === undefined || more.length > 0) return undefined;
  const [first, last] = only;
  if (first === undefined || last === undefined || last < first) return undefined;
  return { start: first, end: last + 1 };
}

type RangeSpec = readonly [first: number | undefined, last: number | undefined];

function parseSpecs(header: string | undefined): RangeSpec[] | undefined {
  const match = /^bytes\s*=(.*)$/i.exec(header ?? '');
  if (match === null) return undefined;
  const specs: RangeSpec[] = [];
  for (const part of (match[1] ?? '').split(',')) {
    const text = part.trim();
    if (text === '') continue;
    const spec = /^(\d*)-(\d*)$/.exec(text);
    if (spec === null || text === '-') return undefined;
    specs.push([parsePosition(spec[1]), parsePosition(spec[2])]);
  }
  return specs.length === 0 ? undefined : specs;
}

/** A number above the largest exact one means the same: no content is as long. */
function parsePosition(digits: string | undefined): number | undefined {
  return digits === undefined || digits === '' ? undefined : Math.min(Number(digits), MAX_POSITION);
}

/** Keeps the client's order if it can. Clients count the parts, so ranges that only touch are not joined. */
function joinOverlapping(ranges: readonly ByteRange[]): readonly ByteRange[] {
  const joined: ByteRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const previous = joined.at(-1);
    if (previous !== undefined && range.start < previous.end)
      joined[joined.length - 1] = { start: previous.start, end: Math.max(previous.end, range.end) };
    else joined.push(range);
  }
  const isKept = joined.length === ranges.length && countDescending(ranges) <= MAX_DESCENDING;
  return isKept ? ranges : joined;
}

function countDescending(ranges: readonly ByteRange[]): number {
  return ranges.filter(({ start }, place) => start < (ranges[place - 1]?.start ?? 0)).length;
}

/** `Content-Range` of one range (RFC 9110, section 14.4). Its last position is inclusive. */
export function formatContentRange(range: ByteRange, totalBytes: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${totalBytes ?? '*'}`;
}
