import { createHash } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { isSpandrelError } from '../../src/core/errors.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc } from '../../src/ztoc/encode-ztoc.ts';
import { encodeGzipZinfo } from '../../src/ztoc/gzip-zinfo.ts';
import { EMPTY_RAW_TEXT, parseRawText, type RawText } from '../../src/tar/raw-text.ts';
import type { Ztoc } from '../../src/ztoc/ztoc.ts';
import type { TocEntry } from '../../src/tar/toc-entry.ts';
import { seededRandom } from '../helpers/seeded-random.ts';

const EMPTY_ENTRY: TocEntry = {
  name: EMPTY_RAW_TEXT,
  type: '' as 'reg',
  uncompressedOffset: 0,
  uncompressedSize: 0,
  linkname: EMPTY_RAW_TEXT,
  mode: 0,
  uid: 0,
  gid: 0,
  uname: EMPTY_RAW_TEXT,
  gname: EMPTY_RAW_TEXT,
  modTime: '0001-01-01T00:00:00Z',
  devMajor: 0,
  devMinor: 0,
  paxRecords: new Map(),
};

function sampleZtoc(spans = 2): Ztoc {
  const checkpoints = Array.from({ length: spans }, (_, id) => ({
    compressedOffset: 10 + 1000 * id,
    bits: id % 8,
    uncompressedOffset: 3000 * id,
  }));
  const file: TocEntry = {
    ...EMPTY_ENTRY,
    name: 'usr/bin/\xff' as RawText,
    type: 'reg',
    uncompressedOffset: 512,
    uncompressedSize: 5000,
    mode: 0o755,
    uid: 4_294_967_295,
    gid: 65_534,
    uname: parseRawText('Jörg'),
    modTime: '2023-11-14T22:13:20.5Z',
    paxRecords: new Map([
      [parseRawText('SCHILY.xattr.user.x'), 'a\0b=\n' as RawText],
      [parseRawText('mtime'), parseRawText('1700000000.5')],
    ]),
  };
  const device: TocEntry = {
    ...file,
    name: parseRawText('dev/x'),
    type: 'char',
    uncompressedOffset: 6144,
    uncompressedSize: 0,
    devMajor: -1,
    devMinor: 2 ** 40,
  };
  return {
    version: '0.9',
    buildTool: 'AWS SOCI CLI v0.2',
    compressedArchiveSize: 1000 * spans + 10,
    uncompressedArchiveSize: 7680,
    entries: [file, device],
    compression: 'gzip',
    maxSpanId: spans - 1,
    spanDigests: checkpoints.map(({ bits }) => digestOf(String(bits))),
    checkpoints: encodeGzipZinfo(4096, checkpoints, (id, target) => target.fill(id + 1)),
  };
}

function failureOf(bytes: Uint8Array): unknown {
  try {
    decodeZtoc(bytes);
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('encodeZtoc', () => {
  it('encodeZtoc writes the bytes of the golden test of soci-snapshotter', () => {
    // ztoc/ztoc_test.go, "TestWriteZtoc"
    const bytes = encodeZtoc({
      version: '0.9',
      buildTool: 'AWS SOCI CLI',
      compressedArchiveSize: 2_000_000,
      uncompressedArchiveSize: 2_500_000,
      entries: [EMPTY_ENTRY, EMPTY_ENTRY],
      compression: 'gzip',
      maxSpanId: 3,
      spanDigests: [],
      checkpoints: new Uint8Array(65_536),
    });
    expect(bytes.length).toBe(65_928);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      'eba28fdf50b1b57543f57dd051b2468c1d4f57b64d2006c75aa4de1d03e6c7ec',
    );
  });

  it('an encoded zTOC decodes to the same zTOC', () => {
    const ztoc = sampleZtoc();
    expect(decodeZtoc(encodeZtoc(ztoc))).toEqual(ztoc);
  });
});

describe('decodeZtoc', () => {
  const malformed = expect.objectContaining({ code: 'INDEX_MALFORMED' }) as unknown;

  it.each([
    ['other numbers of digests and spans', { maxSpanId: 2 }],
    ['another version', { version: '1.0' }],
    ['a negative size', { compressedArchiveSize: -1 }],
    ['a checkpoint behind the end', { compressedArchiveSize: 500 }],
    ['a file behind the end', { uncompressedArchiveSize: 600 }],
    ['checkpoints that are cut short', { checkpoints: sampleZtoc().checkpoints.subarray(1) }],
    ['an unknown type', { entries: [EMPTY_ENTRY] }],
  ])('decodeZtoc refuses a zTOC with %s', (_, change) => {
    expect(failureOf(encodeZtoc({ ...sampleZtoc(), ...change }))).toEqual(malformed);
  });

  it('decodeZtoc refuses a zTOC truncated at any byte', () => {
    const bytes = encodeZtoc({ ...sampleZtoc(1) });
    for (let length = 0; length < bytes.length; length += length < 300 ? 1 : 997) {
      expect(failureOf(bytes.subarray(0, length)), `${length} bytes`).toEqual(malformed);
    }
  });

  it('decodeZtoc throws nothing but INDEX_MALFORMED for damaged bytes', () => {
    const seed = 20_240_817;
    const random = seededRandom(seed);
    const whole = encodeZtoc(sampleZtoc(1));
    // Most of it is the window, which has no structure: damage only the bytes around it.
    const structured = [...whole.keys()].filter((at) => whole[at] !== 1);
    const codes = new Set<unknown>();
    for (let round = 0; round < 5000; round++) {
      const bytes = whole.slice();
      for (let hits = 1 + random() * 3; hits > 0; hits--) {
        const at = structured[Math.floor(random() * structured.length)] ?? 0;
        bytes[at] = random() < 0.3 ? 0xff : random() * 256;
      }
      const failure = failureOf(bytes);
      const code = isSpandrelError(failure) ? failure.code : failure;
      expect([undefined, 'INDEX_MALFORMED'], `seed ${seed}, round ${round}`).toContain(code);
      codes.add(code);
    }
    expect(codes).toEqual(new Set([undefined, 'INDEX_MALFORMED']));
  });

  it('decodeZtoc refuses a buffer whose tables share one text', () => {
    const names = ['n'.repeat(50_000), ...Array.from({ length: 99 }, () => 'x')];
    const entries = names.map((name): TocEntry => ({ ...EMPTY_ENTRY, type: 'reg', name: name as RawText }));
    const bytes = Buffer.from(encodeZtoc({ ...sampleZtoc(1), entries }));
    // After the tables of zTOC and TOC comes the vector of files, which starts with its length.
    const vector = bytes.indexOf(Buffer.from([entries.length, 0, 0, 0]), bytes.length - 80_000);
    const large = vector + 4 + bytes.readUInt32LE(vector + 4);
    for (let at = vector + 4; at < vector + 4 + 4 * entries.length; at += 4)
      bytes.writeUInt32LE(large - at, at);
    expect(failureOf(bytes)).toMatchObject({
      code: 'INDEX_MALFORMED',
      message: expect.stringContaining('the same bytes repeatedly') as unknown,
    });
  });
});
