import { describe, expect, it } from 'vitest';

import {
  formatContentRange,
  parseClosedRange,
  resolveRange,
} from '../../../src/http/requests/range-header.ts';

const one = (start: number, end: number) => ({ kind: 'ranges', ranges: [{ start, end }] });

describe('resolveRange', () => {
  it.each([
    ['bytes=500-1499', 5000, one(500, 1500)],
    ['bytes=500-', 5000, one(500, 5000)],
    ['bytes=-500', 5000, one(4500, 5000)],
    ['bytes=2000-5000', 5000, one(2000, 5000)],
    ['bytes=0-0', 5000, one(0, 1)],
    ['bytes=4999-', 5000, one(4999, 5000)],
    ['bytes=-9000', 5000, one(0, 5000)],
    ['Bytes = 1-2', 5000, one(1, 3)],
    ['bytes=0-1', 1, one(0, 1)],
    ['bytes=0-0,-1', 1, one(0, 1)],
    ['bytes=5-9223372036854775807', 5000, one(5, 5000)],
    ['bytes=5-9223372036854775808', 5000, one(5, 5000)],
    [`bytes=5-${'9'.repeat(400)}`, 5000, one(5, 5000)],
    ['bytes=-9223372036854775807', 5000, one(0, 5000)],
    [`bytes=${'0'.repeat(30)}5-9`, 5000, one(5, 10)],
    ['bytes=0-9,0-9', 5000, one(0, 10)],
    ['bytes=,0-9,,', 5000, one(0, 10)],
  ])('%s of %i bytes', (header, size, expected) => {
    expect(resolveRange(header, size)).toEqual(expected);
  });

  it.each([
    ['bytes=500-0'],
    ['bytes=5000-10000'],
    ['bytes=5000-'],
    ['bytes=-0'],
    ['bytes=9000-9001,6000-'],
    ['bytes=9223372036854775807-'],
    ['bytes=99999999999999999998-99999999999999999999'],
  ])('%s of 5000 bytes cannot be satisfied', (header) => {
    expect(resolveRange(header, 5000)).toEqual({ kind: 'unsatisfiable' });
  });

  it('finds every range of empty content unsatisfiable', () => {
    expect(resolveRange('bytes=0-0', 0)).toEqual({ kind: 'unsatisfiable' });
    expect(resolveRange('bytes=-1', 0)).toEqual({ kind: 'unsatisfiable' });
  });

  it.each([
    [undefined],
    [''],
    ['bytes'],
    ['bytes='],
    ['bytes=-'],
    ['bytes=a-b'],
    ['bytes=1'],
    ['bytes=1-2-3'],
    ['bytes=--5'],
    ['lines=0-1'],
    ['bytes=1.5-2'],
  ])('%j means the whole', (header) => {
    expect(resolveRange(header, 5000)).toEqual({ kind: 'whole' });
  });

  it('keeps the order of ranges, drops those outside, and joins those that overlap', () => {
    expect(resolveRange('bytes=100-199, 0-9', 5000)).toEqual({
      kind: 'ranges',
      ranges: [
        { start: 100, end: 200 },
        { start: 0, end: 10 },
      ],
    });
    expect(resolveRange('bytes=0-9,9000-', 5000)).toEqual(one(0, 10));
    expect(resolveRange('bytes=0-9,10-19,5-30', 5000)).toEqual(one(0, 31));
  });

  it('keeps ranges apart that only touch: clients count the parts', () => {
    expect(resolveRange('bytes=0-9,10-19', 5000)).toEqual({
      kind: 'ranges',
      ranges: [
        { start: 0, end: 10 },
        { start: 10, end: 20 },
      ],
    });
  });

  const ascending = Array.from({ length: 1000 }, (_, place) => ({ start: place * 4, end: place * 4 + 2 }));
  const headerOf = (ranges: readonly { start: number; end: number }[]): string =>
    `bytes=${ranges.map(({ start, end }) => `${start}-${end - 1}`).join(',')}`;

  it('keeps a thousand ascending ranges as they are', () => {
    expect(resolveRange(headerOf(ascending), 5000)).toEqual({ kind: 'ranges', ranges: ascending });
  });

  it('sorts ranges if many of them descend, so that no byte is read twice', () => {
    expect(resolveRange(headerOf(ascending.toReversed()), 5000)).toEqual({
      kind: 'ranges',
      ranges: ascending,
    });
  });

  it('returns each byte once, however often it is requested', () => {
    const header = `bytes=${Array.from({ length: 2000 }, () => '0-').join(',')}`;
    expect(resolveRange(header, 5000)).toEqual(one(0, 5000));
  });
});

describe('parseClosedRange', () => {
  it('parses a closed range, which needs no size', () => {
    expect(parseClosedRange('bytes=5-9')).toEqual({ start: 5, end: 10 });
    expect(parseClosedRange('bytes=5-9223372036854775807')).toEqual({
      start: 5,
      end: Number.MAX_SAFE_INTEGER,
    });
  });

  it.each([['bytes=5-'], ['bytes=-5'], ['bytes=1-2,4-5'], ['bytes=9-5'], [undefined]])(
    'is undefined for %j, whose meaning depends on the size',
    (header) => {
      expect(parseClosedRange(header)).toBeUndefined();
    },
  );
});

it('formats Content-Range with the inclusive end of HTTP', () => {
  expect(formatContentRange({ start: 0, end: 1 }, 10)).toBe('bytes 0-0/10');
  expect(formatContentRange({ start: 5, end: 10 }, undefined)).toBe('bytes 5-9/*');
});
