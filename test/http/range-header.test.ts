import { describe, expect, it } from 'vitest';

import { formatContentRange, parseSingleRange, resolveRange } from '../../src/http/range-header.ts';

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
  ])('%s of %i bytes', (header, size, expected) => {
    expect(resolveRange(header, size)).toEqual(expected);
  });

  it.each([['bytes=500-0'], ['bytes=5000-10000'], ['bytes=5000-'], ['bytes=-0'], ['bytes=9000-9001,6000-']])(
    '%s of 5000 bytes cannot be satisfied',
    (header) => {
      expect(resolveRange(header, 5000)).toEqual({ kind: 'unsatisfiable' });
    },
  );

  it('cannot satisfy any range of nothing', () => {
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
    ['bytes=0-99999999999999999999'],
  ])('%j means the whole', (header) => {
    expect(resolveRange(header, 5000)).toEqual({ kind: 'whole' });
  });

  it('keeps the order of several ranges, leaves out those outside, and joins those that touch', () => {
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

  it('ignores a header with more ranges than anybody needs', () => {
    const header = `bytes=${Array.from({ length: 65 }, (_, place) => `${place * 10}-${place * 10 + 1}`).join(',')}`;
    expect(resolveRange(header, 5000)).toEqual({ kind: 'whole' });
  });
});

describe('parseSingleRange', () => {
  it('gives one range that needs no size', () => {
    expect(parseSingleRange('bytes=5-9')).toEqual({ start: 5, end: 10 });
    expect(parseSingleRange('bytes=5-')).toEqual({ start: 5, end: undefined });
  });

  it.each([['bytes=-5'], ['bytes=1-2,4-5'], ['bytes=9-5'], [undefined]])(
    'leaves %j to those who know the size',
    (header) => {
      expect(parseSingleRange(header)).toBeUndefined();
    },
  );
});

it('formats Content-Range with the inclusive end of HTTP', () => {
  expect(formatContentRange({ start: 0, end: 1 }, 10)).toBe('bytes 0-0/10');
  expect(formatContentRange({ start: 5, end: 10 }, undefined)).toBe('bytes 5-9/*');
});
