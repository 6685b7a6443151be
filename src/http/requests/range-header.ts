import type { ByteRange } from '../../core/byte-range.ts';

/**
 * More ranges that are out of order are answered in the order of the content. Each step back may cost the decompression of what has been
 * read before: RFC 9110, section 14.2, warns of that. Ascending ranges cost no more than the whole, so only the header's size bounds them.
 */
const MAX_DESCENDING = 16;

/** One less than the largest number that is exact, for the end behind it. */
const MAX_POSITION = Number.MAX_SAFE_INTEGER - 1;

/** What a Range header asks of content of a known size. */
export type RangeRequest =
  | { readonly kind: 'whole' }
  | { readonly kind: 'ranges'; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: 'unsatisfiable' };

/**
 * Resolve a Range header (RFC 9110, section 14.1) against a size. Ends are clamped, whatever number they are; overlapping ranges
 * are joined; ranges that lie outside are left out. The ranges of the result never overlap. Another unit, or a text that is no range set,
 * means the whole. `a-b` with `b < a` is invalid by the RFC and could be ignored; as registries do, it is answered as unsatisfiable.
 */
export function resolveRange(header: string | undefined, sizeBytes: number): RangeRequest {
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
 * The first and only range of a header where the size is not known yet: `[start, end)`, with `end` undefined for an open one.
 * `undefined` for everything that needs the size or is not one range.
 */
export function parseSingleRange(
  header: string | undefined,
): { start: number; end: number | undefined } | undefined {
  const [only, ...more] = parseSpecs(header) ?? [];
  if (only === undefined || more.length > 0 || only[0] === undefined) return undefined;
  const [first, last] = only;
  if (last !== undefined && last < first) return undefined;
  return { start: first, end: last === undefined ? undefined : last + 1 };
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

/** No content is as long as the largest of them, so a greater number means the same. */
function parsePosition(digits: string | undefined): number | undefined {
  return digits === undefined || digits === '' ? undefined : Math.min(Number(digits), MAX_POSITION);
}

/** In the client's order where that can be: clients count the parts, so those that only touch stay apart. */
function joinOverlapping(ranges: readonly ByteRange[]): readonly ByteRange[] {
  const joined: ByteRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const previous = joined.at(-1);
    if (previous !== undefined && range.start < previous.end)
      joined[joined.length - 1] = { start: previous.start, end: Math.max(previous.end, range.end) };
    else joined.push(range);
  }
  const isAsAsked = joined.length === ranges.length && countDescending(ranges) <= MAX_DESCENDING;
  return isAsAsked ? ranges : joined;
}

function countDescending(ranges: readonly ByteRange[]): number {
  return ranges.filter(({ start }, place) => start < (ranges[place - 1]?.start ?? 0)).length;
}

/** `Content-Range` of one range (RFC 9110, section 14.4); HTTP's last position is inclusive. */
export function formatContentRange(range: ByteRange, totalBytes: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${totalBytes ?? '*'}`;
}
