import { equal, ok } from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import { LayerIndex } from '../../../src/index/layer-index.ts';
import type { RawText } from '../../../src/tar/raw-text.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from '../mutators/interesting.ts';
import { mutateBytes } from '../mutators/mutate-bytes.ts';
import { mutateJson } from '../mutators/mutate-json.ts';
import type { FuzzTarget } from '../target.ts';

// Layout: windows, footer (lengths of six sections, sections), trailer (magic, version, checksum, position of
// the footer).
const TRAILER_BYTES = 32;
const SECTIONS = 6;
const JSON_SECTION = 2;
const MAX_PAGES = 5;

export const indexFileTarget: FuzzTarget = {
  name: 'index-file',
  claim: 'a damaged index file with a right checksum is INDEX_MALFORMED or can be read to its end',
  codes: ['INDEX_MALFORMED'],
  testCases: 2000,
  makeInput: (dice, corpus) => makeIndexFile(dice, dice.pick(corpus.indexFiles), corpus),
  async read(input, { dice, scratch }) {
    const index = dice.chance(0.1)
      ? await openFile(input, join(scratch, 'opened'))
      : LayerIndex.fromBytes(input);
    const { spanCount, fileCount, layerBytes, uncompressedBytes } = index.summary;
    let uncompressedEnd = 0;
    const spans = [...index.spans()];
    for (const span of spans) {
      equal(span.uncompressed.start, uncompressedEnd);
      uncompressedEnd = span.uncompressed.end;
      ok(span.compressed.end <= layerBytes && span.uncompressed.end <= uncompressedBytes);
    }
    equal(spans.length, spanCount);
    const offset = Number(pickNumber(dice));
    const [at] = await index.readSpans({ start: offset, end: offset + 1 });
    ok(at === undefined || (at.uncompressed.start <= offset && offset < at.uncompressed.end));
    await index.span(offset);
    equal([...index.entries()].length, fileCount);
    await index.findFile('usr/bin/tool' as RawText);
    let after: RawText | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const query = { prefix: '' as RawText, limit: 7, ...(after === undefined ? {} : { after }) };
      after = index.listFiles(query).next;
      if (after === undefined) break;
    }
  },
};

async function openFile(bytes: Buffer, path: string): Promise<LayerIndex> {
  writeFileSync(path, bytes);
  return LayerIndex.open(path);
}

/** `file` with damage anywhere, or in its footer with a matching checksum. */
export function makeIndexFile(dice: Dice, file: Buffer, corpus: Corpus): Buffer {
  if (dice.chance(0.1)) return mutateBytes(dice, file, [dice.pick(corpus.indexFiles)]);
  const footerStart = file.readDoubleLE(file.length - TRAILER_BYTES + 16);
  const footer = mutateFooter(dice, file.subarray(footerStart, -TRAILER_BYTES), dice.pick(corpus.indexFiles));
  const trailer = Buffer.from(file.subarray(-TRAILER_BYTES));
  trailer.writeUInt32LE(crc32(footer), 12);
  trailer.writeDoubleLE(footer.length, 24);
  if (dice.chance(0.1))
    trailer.writeDoubleLE(Number(pickNumber(dice)) + dice.pick([0, 0.5, Number.NaN]), dice.pick([16, 24]));
  return Buffer.concat([file.subarray(0, footerStart), footer, trailer]);
}

function mutateFooter(dice: Dice, footer: Buffer, other: Buffer): Buffer {
  if (dice.chance(0.2)) return mutateBytes(dice, footer, [other]);
  const lengths = Array.from({ length: SECTIONS }, (_, index) => footer.readUInt32LE(4 * index));
  let at = 4 * SECTIONS;
  const sections: Buffer[] = lengths.map((length) => Buffer.from(footer.subarray(at, (at += length))));
  for (let count = dice.few(3); count > 0; count--) {
    const number = dice.below(SECTIONS);
    const section = sections[number] ?? Buffer.alloc(0);
    sections[number] = number === JSON_SECTION ? mutateJson(dice, section) : mutateNumbers(dice, section);
  }
  const head = Buffer.alloc(4 * SECTIONS);
  for (const [index, { length }] of sections.entries()) head.writeUInt32LE(length, 4 * index);
  if (dice.chance(0.1)) writeNumber(head, 4 * dice.below(SECTIONS), 4, pickNumber(dice));
  return Buffer.concat([head, ...sections]);
}

/** These sections hold four-byte integers and doubles. */
function mutateNumbers(dice: Dice, section: Buffer): Buffer {
  if (dice.chance(0.1)) return mutateBytes(dice, section);
  for (let count = dice.few(4); count > 0 && section.length >= 8; count--) {
    const at = dice.chance(0.5) ? 2 * dice.below((section.length - 7) / 2) : dice.below(section.length - 7);
    if (dice.chance(0.5))
      section.writeDoubleLE(Number(pickNumber(dice)) * dice.pick([1, 1, 1, 0.5, Number.NaN, Infinity]), at);
    else writeNumber(section, at, dice.pick([1, 4] as const), pickNumber(dice));
  }
  return section;
}
