import { describe, expect, it } from 'vitest';

import { codeLengths, DeflateWriter } from '../helpers/layers/deflate-writer.ts';
import { seededBytes } from '../helpers/layers/gzip-corpus.ts';
import { expectAgreement } from './deflate-agreement.ts';

/** Codes of 1 to 14 bits for 'a' to 'n', of 15 for 'o' and the end. */
const LONG_CODES = codeLengths(257, {
  ...Object.fromEntries(Array.from({ length: 14 }, (_, index) => [97 + index, index + 1])),
  111: 15,
  256: 15,
});
const A_AND_END = codeLengths(257, { 97: 1, 256: 1 });
/** 'a', the end, and matches of 3, 258 and, with extra bits, 11 to 12 and 131 to 162. */
const WITH_MATCHES = codeLengths(286, { 97: 2, 256: 3, 257: 3, 265: 3, 281: 3, 285: 2 });
const NO_DISTANCES = [0];
/** One code for each distance of 30, of up to 15 bits. */
const ALL_DISTANCES = [...Array.from({ length: 14 }, (_, index) => index + 1), 15, 15];

const writer = (): DeflateWriter => new DeflateWriter();
const dynamic = (litlen: readonly number[], distance: readonly number[]): DeflateWriter =>
  writer().dynamic({ litlen, distance });

const ACCEPTED: [string, DeflateWriter][] = [
  ['a stored block of no bytes', writer().stored(Buffer.alloc(0), { last: true })],
  ['the longest stored block', writer().stored(seededBytes(1, 65_535), { last: true })],
  [
    'stored blocks one behind the other',
    writer().stored(Buffer.from('ab')).stored(Buffer.alloc(0)).stored(Buffer.from('c'), { last: true }),
  ],
  [
    'a stored block behind bits of another',
    writer().fixed(false).text('xyz').end().stored(Buffer.from('z'), { last: true }),
  ],
  ['an empty fixed block', writer().fixed().end()],
  [
    'codes of 15 bits',
    dynamic(LONG_CODES, NO_DISTANCES).text('abcdefghijklmnoonmlkjihgfedcba'.repeat(200)).end(),
  ],
  ['the end code alone, one bit', dynamic(codeLengths(257, { 256: 1 }), NO_DISTANCES).end()],
  ['no distance code', dynamic(A_AND_END, NO_DISTANCES).text('aaaa').end()],
  [
    'a single distance code',
    dynamic(WITH_MATCHES, [1]).text('a').symbols(285).distance(0).symbols(257).distance(0).end(),
  ],
  [
    'lengths with extra bits, at both ends',
    dynamic(WITH_MATCHES, [1, 1])
      .text('aaa')
      .symbols(265)
      .number(1, 1)
      .distance(1)
      .symbols(281)
      .number(0, 5)
      .distance(0)
      .symbols(281)
      .number(31, 5)
      .distance(1)
      .end(),
  ],
  [
    'distance codes of 15 bits',
    dynamic(WITH_MATCHES, ALL_DISTANCES)
      .text('a'.repeat(300))
      .symbols(257)
      .distance(15, 63, 6)
      .symbols(285)
      .distance(14, 0, 6)
      .symbols(257)
      .distance(13, 31, 5)
      .end(),
  ],
  [
    'the farthest distance',
    writer().stored(seededBytes(2, 32_768)).fixed().symbols(285).distance(29, 8191, 13).end(),
  ],
  [
    'the farthest distance again and again',
    farMatches(writer().stored(seededBytes(3, 32_768)).fixed(), 2000),
  ],
  ['each distance from 1 to 40 with each length', nearMatches()],
];

/** The damage, and zlib's words for it. */
const REFUSED: [string, string, DeflateWriter][] = [
  ['a reserved block type', 'invalid block type', writer().number(7, 3).number(0, 5)],
  [
    'a wrong complement of the length',
    'invalid stored block lengths',
    writer().stored(Buffer.from('ab'), { complement: 5 }),
  ],
  [
    '287 literal and length codes',
    'too many length or distance symbols',
    writer().number(5, 3).number(30, 5).number(0, 9),
  ],
  [
    '31 distance codes',
    'too many length or distance symbols',
    writer().number(5, 3).number(0, 5).number(30, 5).number(0, 4),
  ],
  ['a precode with too many codes', 'invalid code lengths set', precode([1, 1, 1])],
  ['a precode with too few codes', 'invalid code lengths set', precode([1])],
  ['a precode of no codes', 'invalid code -- missing end-of-block', precode([]).sent('0'.repeat(258))],
  ['a repetition of nothing', 'invalid bit length repeat', precode([1, 1]).sent('000')],
  ['a repetition beyond the end', 'invalid bit length repeat', precode([0, 1, 1]).sent('11111111'.repeat(3))],
  [
    'no end code',
    'invalid code -- missing end-of-block',
    dynamic(codeLengths(257, { 1: 1, 2: 1 }), NO_DISTANCES),
  ],
  [
    'too many codes',
    'invalid literal/lengths set',
    dynamic(codeLengths(257, { 1: 1, 2: 1, 256: 1 }), NO_DISTANCES),
  ],
  ['too few codes', 'invalid literal/lengths set', dynamic(codeLengths(257, { 1: 2, 256: 2 }), NO_DISTANCES)],
  [
    'the end code alone, two bits',
    'invalid literal/lengths set',
    dynamic(codeLengths(257, { 256: 2 }), NO_DISTANCES),
  ],
  ['too many distance codes', 'invalid distances set', dynamic(A_AND_END, [1, 1, 1])],
  ['too few distance codes', 'invalid distances set', dynamic(A_AND_END, [2, 2])],
  ['a single distance code of two bits', 'invalid distances set', dynamic(A_AND_END, [2])],
  [
    'the code that the end code alone leaves',
    'invalid literal/length code',
    dynamic(codeLengths(257, { 256: 1 }), NO_DISTANCES).sent('1'),
  ],
  [
    'a match without any distance code',
    'invalid distance code',
    dynamic(WITH_MATCHES, NO_DISTANCES).text('a').symbols(257).sent('0'),
  ],
  [
    'the code that a single distance code leaves',
    'invalid distance code',
    dynamic(WITH_MATCHES, [1]).text('a').symbols(257).sent('1'),
  ],
  ['length symbol 286', 'invalid literal/length code', writer().fixed().text('abc').symbols(286)],
  ['length symbol 287', 'invalid literal/length code', writer().fixed().text('abc').symbols(287)],
  ['distance symbol 30', 'invalid distance code', writer().fixed().text('abc').symbols(257).distance(30)],
  ['distance symbol 31', 'invalid distance code', writer().fixed().text('abc').symbols(257).distance(31)],
  ['a match before any output', 'invalid distance too far back', writer().fixed().symbols(257).distance(0)],
  [
    'a match one byte too far',
    'invalid distance too far back',
    writer().fixed().text('abc').symbols(257).distance(3),
  ],
  [
    'the farthest distance, one byte too early',
    'invalid distance too far back',
    writer().stored(seededBytes(2, 32_767)).fixed().symbols(285).distance(29, 8191, 13),
  ],
];

/** Lengths of the codes for the lengths 16, 17, 18, 0, 8 …, followed by the lengths of 257 and 1 codes. */
function precode(lengths: readonly number[]): DeflateWriter {
  const block = writer().number(5, 3).number(0, 10).number(15, 4);
  for (let place = 0; place < 19; place++) block.number(lengths[place] ?? 0, 3);
  return block;
}

function farMatches(block: DeflateWriter, count: number): DeflateWriter {
  for (let match = 0; match < count; match++)
    block.symbols(285).distance(29, 8191, 13).symbols(257).distance(29, 8190, 13);
  return block.end();
}

function nearMatches(): DeflateWriter {
  const block = writer().stored(seededBytes(4, 100)).fixed();
  // RFC 1951, 3.2.5: distances up to 4 have a code each, then two codes for each number of extra bits.
  for (let distance = 1; distance <= 40; distance++) {
    for (let length = 3; length <= 10; length++) writeMatch(block, 254 + length, distance);
    for (const length of [277, 280, 284]) writeMatch(block.symbols(distance), length, distance);
    writeMatch(block.symbols(distance), 285, distance);
  }
  return block.end();
}

function writeMatch(block: DeflateWriter, lengthSymbol: number, distance: number): void {
  const lengthExtraBits = lengthSymbol < 265 || lengthSymbol === 285 ? 0 : (lengthSymbol - 261) >> 2;
  block.symbols(lengthSymbol).number(distance % 2 ** lengthExtraBits, lengthExtraBits);
  if (distance <= 4) {
    block.distance(distance - 1);
    return;
  }
  const extraBits = Math.floor(Math.log2(distance - 1)) - 1;
  const half = (distance - 1) >> extraBits;
  block.distance(2 * extraBits + half, (distance - 1) % 2 ** extraBits, extraBits);
}

describe('deflate data made by hand', () => {
  it.each(ACCEPTED)('both engines decode handmade deflate data as node:zlib does: %s', (name, block) => {
    for (const chunkBytes of [1, 7, 100_000])
      expect(expectAgreement(block.bytes(), chunkBytes, name)).toBe('whole');
  });

  it.each(REFUSED)(
    'both engines refuse handmade deflate data as node:zlib does: %s',
    (name, problem, block) => {
      for (const chunkBytes of [1, 7, 100_000])
        expect(expectAgreement(block.bytes(), chunkBytes, name)).toBe(problem);
    },
  );

  it('both engines report handmade deflate data as cut short wherever it ends early', () => {
    const bytes = nearMatches().bytes();
    for (let end = 0; end < bytes.length; end += 11) {
      expect(expectAgreement(bytes.subarray(0, end), 64, `cut at ${end}`)).toBe('cut');
    }
  });
});
