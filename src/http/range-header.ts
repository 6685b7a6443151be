import type { ByteRange } from '../core/byte-range.ts';

/** Beyond this many ranges the header is ignored: RFC 9110, section 14.2, lets a server do so against abuse. */
const MAX_RANGES = 64;

/** What a Range header asks of content of a known size. */
export type RangeRequest =
  | { readonly kind: 'whole' }
  | { readonly kind: 'ranges'; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: 'unsatisfiable' };

/**
 * Resolve a Range header (RFC 9110, section 14.1) against a size. Ends are clamped; overlapping and touching ranges are joined;
 * ranges that lie outside are left out. Another unit, or a text that is no range set, means the whole. `a-b` with `b < a` is
 * invalid by the RFC and could be ignored; as registries do, it is answered as unsatisfiable.
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
  const [head, ...tail] = joinRanges(ranges);
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
  const texts = (match[1] ?? '').split(',').map((text) => text.trim());
  const specs: RangeSpec[] = [];
  for (const text of texts) {
    if (text === '') continue;
    const spec = /^(\d{0,15})-(\d{0,15})$/.exec(text);
    if (spec === null || text === '-') return undefined;
    specs.push([spec[1] === '' ? undefined : Number(spec[1]), spec[2] === '' ? undefined : Number(spec[2])]);
  }
  return specs.length === 0 || specs.length > MAX_RANGES ? undefined : specs;
}

/** Sorted only if joining changes anything: the RFC wants the client's order kept where it can be. */
function joinRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: ByteRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const previous = joined.at(-1);
    if (previous !== undefined && range.start <= previous.end) {
      joined[joined.length - 1] = { start: previous.start, end: Math.max(previous.end, range.end) };
    } else {
      joined.push(range);
    }
  }
  return joined.length === ranges.length ? [...ranges] : joined;
}

/** `Content-Range` of one range (RFC 9110, section 14.4); HTTP's last position is inclusive. */
export function formatContentRange(range: ByteRange, totalBytes: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${totalBytes ?? '*'}`;
}
