import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { layReads } from '../../../src/boot/profiles/lay-reads.ts';
import { parseRawText, type RawText } from '../../../src/tar/raw-text.ts';
import { buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { seededText } from '../../helpers/layers/gzip-corpus.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';

const BLOCK = 64 * 1024;
const NONE: ReadonlySet<RawText> = new Set();

/** Bytes that do not compress. */
function noise(seed: number, bytes: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Array.from({ length: bytes }, () => random() * 256));
}

const FILES: Readonly<Record<string, Uint8Array>> = {
  './empty': Buffer.alloc(0),
  'usr/lib/large': noise(1, 10 * BLOCK + 10),
  '/usr/bin/small': noise(2, 100),
  'usr/lib/middle': noise(3, 2 * BLOCK),
  'var/last': noise(4, 3000),
};
const TAR = tarArchive(FILES);
/** Where the data of a file starts and ends in the tar. */
function placeOf(name: string): { readonly start: number; readonly end: number } {
  const data = FILES[name] ?? Buffer.alloc(0);
  const start = TAR.indexOf(data);
  return { start, end: start + data.length };
}

async function indexOf(spanBytes: number, compressed = gzipSync(TAR, { level: 1 })) {
  return buildFromBytes(compressed, { compression: 'gzip', spanBytes });
}

describe('layReads', () => {
  it('finds the files of ranges of the tar, their shares and their order', async () => {
    await using layer = await indexOf(BLOCK);
    const large = placeOf('usr/lib/large');
    const last = placeOf('var/last');
    const small = placeOf('/usr/bin/small');
    const reads = [
      { order: 0, range: last },
      { order: 1, range: { start: large.start + 3 * BLOCK, end: large.start + 5 * BLOCK } },
      { order: 2, range: { start: large.start + 5 * BLOCK - 10, end: large.start + 5 * BLOCK + 10 } },
      { order: 3, range: { start: small.start + 5, end: small.start + 6 } },
    ];
    const { touched, coarseReads } = layReads(layer.index, reads, true, NONE);
    expect(coarseReads).toBe(0);
    expect(touched).toEqual([
      {
        path: 'usr/lib/large',
        bytes: 10 * BLOCK + 10,
        readShare: (2 * BLOCK + 10) / (10 * BLOCK + 10),
        order: 1,
      },
      { path: 'usr/bin/small', bytes: 100, readShare: 0.01, order: 3 },
      { path: 'var/last', bytes: 3000, readShare: 1, order: 0 },
    ]);
  });

  it('is right for any ranges, of the tar and of the compressed layer', async () => {
    await using layer = await indexOf(BLOCK / 2);
    const spans = [...layer.index.spans()];
    for (let seed = 1; seed <= 100; seed++) {
      const random = seededRandom(seed);
      const chosen = spans.filter(() => random() < 0.4);
      const byTar = chosen.map(({ uncompressed: range }, order) => ({ order, range }));
      const byLayer = chosen.map(({ compressed: range }, order) => ({ order, range }));
      const ofTar = layReads(layer.index, byTar, true, NONE).touched;
      expect(layReads(layer.index, byLayer, false, NONE).touched, `seed ${seed}`).toEqual(ofTar);
      const expected = Object.keys(FILES).flatMap((name) => {
        const { start, end } = placeOf(name);
        // Spans do not overlap.
        const read = byTar.map(({ range }) => Math.min(range.end, end) - Math.max(range.start, start));
        const bytes = read.reduce((sum, part) => sum + Math.max(0, part), 0);
        const path = name.replace(/^\.?\//, '');
        return bytes === 0 ? [] : [{ path, readShare: bytes / (end - start) }];
      });
      const found = ofTar.map(({ path, readShare }) => ({ path, readShare }));
      expect(found).toEqual(expected);
    }
  });

  it('learns nothing of spans whose first or last byte is shared with one that was read', async () => {
    const text = Buffer.from(seededText(7, 2_000_000));
    await using layer = await indexOf(BLOCK, gzipSync(tarArchive({ text })));
    const spans = [...layer.index.spans()];
    expect(spans.filter(({ bits }) => bits > 0).length).toBeGreaterThan(10);
    for (const { compressed, uncompressed } of spans) {
      const { touched } = layReads(layer.index, [{ order: 0, range: compressed }], false, NONE);
      // The data of the file start after one header.
      const [start, end] = [uncompressed.start, Math.min(uncompressed.end, text.length + 512)];
      const bytes = end - Math.max(start, 512);
      expect(touched.map(({ readShare }) => Math.round(readShare * text.length))).toEqual([bytes]);
    }
  });

  it('learns nothing from the header of a gzip layer, nor from ranges that are too large', async () => {
    await using layer = await indexOf(BLOCK);
    const header = { order: 0, range: { start: 0, end: 10 } };
    expect(layReads(layer.index, [header], false, NONE).touched).toEqual([]);
    const all = { order: 0, range: { start: 0, end: TAR.length } };
    expect(layReads(layer.index, [all], true, NONE).touched).not.toEqual([]);
    const padded = gzipSync(tarArchive({ ...FILES, zeros: Buffer.alloc(4 * 2 ** 20) }));
    await using coarse = await indexOf(4 * 2 ** 20, padded);
    const span = { order: 0, range: { start: 10, end: padded.length } };
    expect(layReads(coarse.index, [span], false, NONE)).toMatchObject({ touched: [], coarseReads: 1 });
  });

  it('finds known files that were not read', async () => {
    await using layer = await indexOf(BLOCK);
    const known = new Set(['usr/lib/middle', 'usr/bin/small', 'gone'].map(parseRawText));
    const { present } = layReads(layer.index, [], true, known);
    expect([...present]).toEqual([
      ['usr/bin/small', 100],
      ['usr/lib/middle', 2 * BLOCK],
    ]);
  });
});
