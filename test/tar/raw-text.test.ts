import { describe, expect, it } from 'vitest';

import {
  cleanPath,
  decodeRawText,
  describeRawText,
  encodeRawText,
  parseDescribed,
  parseRawText,
  printRawText,
  type RawText,
} from '../../src/tar/raw-text.ts';

describe('raw text', () => {
  it('keeps every byte', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect(encodeRawText(decodeRawText(bytes))).toEqual(Buffer.from(bytes));
  });

  it('prints UTF-8 as it is, and the bytes of what is none', () => {
    expect(printRawText(parseRawText('Grüße/日本\\'))).toBe('Grüße/日本\\');
    expect(printRawText('a\xff\\\xc3\xa9' as RawText)).toBe('a\\xff\\\\é');
  });

  it('has its bytes beside it in JSON where it is not UTF-8, and there alone', () => {
    expect(describeRawText('name', parseRawText('Grüße'))).toEqual({ name: 'Grüße' });
    const described = describeRawText('name', 'a/caf\xe9 1' as RawText);
    expect(described).toEqual({ name: 'a/caf\\xe9 1', nameBytes: 'a/caf%E9%201' });
    expect(parseDescribed(described.name, described.nameBytes)).toBe('a/caf\xe9 1');
  });

  it.each([
    ['./usr/bin/', 'usr/bin'],
    ['/etc//passwd', 'etc/passwd'],
    ['a/./b/../c', 'a/c'],
    ['../../x', 'x'],
    ['./', ''],
    ['..', ''],
    ['.wh..wh..opq', '.wh..wh..opq'],
    ['a..b/.c', 'a..b/.c'],
  ])('%j is the path %j', (path, cleaned) => {
    expect(cleanPath(path as RawText)).toBe(cleaned);
  });
});
