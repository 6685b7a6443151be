import { isUtf8 } from 'node:buffer';

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
import { seededRandom } from '../helpers/seeded-random.ts';

/** Reverses the printed form. */
function unescape(printed: string): Buffer {
  const parts = printed.match(/\\\\|\\x[0-9a-f]{2}|[^\\]+/g) ?? [];
  return Buffer.concat(
    parts.map((part) => {
      if (part === '\\\\') return Buffer.from('\\');
      return part.startsWith('\\x') ? Buffer.from(part.slice(2), 'hex') : Buffer.from(part);
    }),
  );
}

describe('raw text', () => {
  it('raw text keeps every byte', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect(encodeRawText(decodeRawText(bytes))).toEqual(Buffer.from(bytes));
  });

  it('raw text prints UTF-8 unchanged, and other bytes escaped', () => {
    expect(printRawText(parseRawText('Grüße/日本\\'))).toBe('Grüße/日本\\');
    expect(printRawText('a\xff\\\xc3\xa9' as RawText)).toBe('a\\xff\\\\é');
  });

  it('raw text prints arbitrary bytes as other decoders do', () => {
    const random = seededRandom(8);
    const starts = ['\\', 'a', 'é', '日', '😀', '\u0000'].map((text) => Buffer.from(text));
    for (let round = 0; round < 3000; round++) {
      const parts = Array.from({ length: 1 + Math.floor(random() * 6) }, () => {
        const whole = starts[Math.floor(random() * starts.length)] ?? Buffer.alloc(0);
        return random() < 0.4
          ? Buffer.from([0x80 + Math.floor(random() * 128)])
          : whole.subarray(0, 1 + Math.floor(random() * 4));
      });
      const bytes = Buffer.concat(parts);
      const printed = printRawText(decodeRawText(bytes));
      // Node's decoder shows which bytes are not UTF-8.
      if (isUtf8(bytes)) expect(printed).toBe(bytes.toString());
      else expect(unescape(printed)).toEqual(bytes);
    }
  });

  it('JSON has the bytes of raw text exactly where it is not UTF-8', () => {
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
  ])('cleanPath turns %j into %j', (path, cleaned) => {
    expect(cleanPath(path as RawText)).toBe(cleaned);
  });
});
