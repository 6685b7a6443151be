import { describe, expect, it } from 'vitest';

import {
  cleanPath,
  decodeRawText,
  encodeRawText,
  parseRawText,
  printRawText,
  type RawText,
} from '../../src/ztoc/raw-text.ts';

describe('raw text', () => {
  it('keeps every byte', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect(encodeRawText(decodeRawText(bytes))).toEqual(Buffer.from(bytes));
  });

  it('prints UTF-8, and a sign in place of what is none', () => {
    expect(printRawText(parseRawText('Grüße/日本'))).toBe('Grüße/日本');
    expect(printRawText('a\xffb' as RawText)).toBe('a\ufffdb');
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
