import { describe, expect, it } from 'vitest';

import { parseRawText, type RawText } from '../../src/tar/raw-text.ts';
import { TocRecords } from '../../src/index/toc-records.ts';
import type { TocEntry } from '../../src/tar/toc-entry.ts';

const EMPTY = '' as RawText;

function entry(name: string, records: Readonly<Record<string, string>> = {}): TocEntry {
  const pairs = Object.entries(records).map(
    ([key, value]) => [parseRawText(key), parseRawText(value)] as const,
  );
  return {
    name: parseRawText(name),
    type: 'reg',
    uncompressedOffset: 512,
    uncompressedSize: 1,
    linkname: EMPTY,
    mode: 0o644,
    uid: 0,
    gid: 0,
    uname: EMPTY,
    gname: EMPTY,
    modTime: '',
    devMajor: 0,
    devMinor: 0,
    paxRecords: new Map(pairs),
  };
}

describe('packed entries', () => {
  it('packed entries decode to the same entries', () => {
    const records = new TocRecords();
    const entries = [entry('a'), entry('b', { 'SCHILY.xattr.user.a': 'x'.repeat(70_000) }), entry('c')];
    for (const each of entries) records.add(each);
    const { bytes, offsets } = records.encode();
    const decoded = TocRecords.decode(bytes, offsets);
    expect(entries.map((_, index) => decoded.at(index))).toEqual(entries);
    expect(decoded.at(3)).toBeUndefined();
  });

  it('packed entries are refused beyond the memory limit', () => {
    const records = new TocRecords(10_000);
    expect(() => {
      for (let index = 0; index < 100; index++) records.add(entry('a', { comment: 'x'.repeat(1000) }));
    }).toThrow(expect.objectContaining({ code: 'LAYER_TOO_LARGE' }) as Error);
  });

  it.each([
    ['twice the same', [0, 0]],
    ['out of order', [100, 0]],
    ['behind the end', [0, 1_000_000]],
  ])('packed entries are refused when their offsets are %s', (_, places) => {
    const records = new TocRecords();
    records.add(entry('a'.repeat(200)));
    records.add(entry('b'));
    const { bytes } = records.encode();
    expect(() => TocRecords.decode(bytes, Uint32Array.from(places))).toThrow(
      expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error,
    );
  });

  it('a packed entry cannot reach into the next one', () => {
    const records = new TocRecords();
    records.add(entry('first'));
    records.add(entry('second'));
    const { bytes, offsets } = records.encode();
    // The length of the name follows the fixed fields.
    bytes.writeUInt32LE(100, bytes.indexOf('first') - 4);
    expect(() => TocRecords.decode(bytes, offsets).at(0)).toThrow(
      expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error,
    );
  });
});
