import { Builder } from 'flatbuffers';
import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc, ZTOC_SLOTS } from '../../src/ztoc/encode-ztoc.ts';
import { FlatBuffer } from '../../src/ztoc/flat-buffer.ts';
import { parseRawText, type RawText } from '../../src/tar/raw-text.ts';
import { encodeTarZinfo } from '../../src/ztoc/tar-zinfo.ts';
import type { Ztoc } from '../../src/ztoc/ztoc.ts';
import type { TocEntry } from '../../src/tar/toc-entry.ts';

const malformed = expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error;
const EMPTY = '' as RawText;

function file(modTime = '2023-11-14T22:13:20Z'): TocEntry {
  return {
    name: parseRawText('a'),
    type: 'reg',
    uncompressedOffset: 512,
    uncompressedSize: 0,
    linkname: EMPTY,
    mode: 0,
    uid: 0,
    gid: 0,
    uname: EMPTY,
    gname: EMPTY,
    modTime,
    devMajor: 0,
    devMinor: 0,
    paxRecords: new Map(),
  };
}

function plainZtoc(entries: readonly TocEntry[]): Ztoc {
  return {
    version: '0.9',
    buildTool: 'AWS SOCI CLI v0.2',
    compressedArchiveSize: 1024,
    uncompressedArchiveSize: 1024,
    entries,
    compression: 'none',
    maxSpanId: 0,
    spanDigests: [digestOf('')],
    checkpoints: encodeTarZinfo({ spanBytes: 4096, sizeBytes: 1024 }),
  };
}

describe('decodeZtoc', () => {
  it.each(['', '2023-11-14T22:13:20Z', '0001-01-01T00:00:00.123456789Z', '2023-11-14T23:13:20+01:00'])(
    'decodeZtoc accepts the time %j',
    (time) => {
      expect(decodeZtoc(encodeZtoc(plainZtoc([file(time)]))).entries[0]?.modTime).toBe(time);
    },
  );

  it.each(['yesterday', '2023-11-14', '2023-11-14T22:13:20.1234567890Z', '2023-11-14T22:13:20Z\0'])(
    'decodeZtoc refuses the time %j',
    (time) => {
      expect(() => decodeZtoc(encodeZtoc(plainZtoc([file(time)])))).toThrow(malformed);
    },
  );

  it('decodeZtoc refuses more files than allowed', () => {
    const bytes = encodeZtoc(plainZtoc([file(), file(), file()]));
    expect(decodeZtoc(bytes, { maxTocEntries: 3 }).entries).toHaveLength(3);
    expect(() => decodeZtoc(bytes, { maxTocEntries: 2 })).toThrow(malformed);
  });

  it('decodeZtoc refuses more bytes than a flatbuffer can have', () => {
    expect(() => decodeZtoc(new Uint8Array(2 ** 31))).toThrow(malformed);
  });

  it('decodeZtoc refuses repeated references to one table, however small', () => {
    const builder = new Builder(1024);
    builder.startObject(0);
    const empty = builder.endObject();
    builder.startVector(4, 10_000, 4);
    for (let count = 0; count < 10_000; count++) builder.addOffset(empty);
    const files = builder.endVector();
    builder.startObject(1);
    builder.addFieldOffset(ZTOC_SLOTS.toc.metadata, files, 0);
    builder.finish(builder.endObject());
    const table = new FlatBuffer(builder.asUint8Array()).root();
    expect(() => table.tables(ZTOC_SLOTS.toc.metadata)).toThrow(malformed);
  });
});
