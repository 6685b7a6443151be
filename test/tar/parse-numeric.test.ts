import { describe, expect, it } from 'vitest';

import { parseDecimal } from '../../src/tar/parse-numeric.ts';

const invalid = expect.objectContaining({ code: 'TAR_INVALID' }) as Error;

describe('parseDecimal', () => {
  it.each([
    ['0', 0],
    ['-0', 0],
    ['+7', 7],
    ['00012', 12],
    ['9007199254740993', 9007199254740993n],
    ['-9223372036854775808', -9223372036854775808n],
  ])('reads %s as Go does', (text, expected) => {
    expect(parseDecimal(text)).toBe(expected);
  });

  it.each(['', '+', '-', '1 ', '0x1', '1.0', '--1', '9223372036854775808', '9'.repeat(2 ** 20)])(
    'parseDecimal refuses %s',
    (text) => {
      expect(() => parseDecimal(text)).toThrow(invalid);
    },
  );

  it('parseDecimal parses a megabyte of zeros without backtracking, whatever follows them', () => {
    const zeros = '0'.repeat(2 ** 20);
    expect(parseDecimal(`${zeros}5`)).toBe(5);
    expect(() => parseDecimal(`${zeros}x`)).toThrow(invalid);
  });
});
