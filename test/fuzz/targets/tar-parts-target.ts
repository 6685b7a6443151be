import { equal, ok } from 'node:assert/strict';

import { isSpandrelError } from '../../../src/core/errors.ts';
import { parsePaxRecords } from '../../../src/tar/pax-records.ts';
import {
  cleanPath,
  decodeRawText,
  encodeRawText,
  parseRawText,
  printRawText,
  type RawText,
} from '../../../src/tar/raw-text.ts';
import { parseSparseRecords, paxSparseSize, SparseDataMap } from '../../../src/tar/sparse-map.ts';
import { parseDecimal, parseNumeric, wrapUint32 } from '../../../src/tar/parse-numeric.ts';
import { formatTime, parsePaxTime } from '../../../src/tar/tar-time.ts';
import { makeText } from '../mutators/make-text.ts';
import { makeExtension } from '../mutators/tar-extensions.ts';
import { writeTarNumber } from '../mutators/tar-fields.ts';
import type { FuzzTarget } from '../target.ts';

const WORDS = [
  '0',
  '1',
  '9',
  '-',
  '+',
  '.',
  '512',
  '1700000000',
  '.5',
  '\n',
  ',',
  '253402300799',
  '-62167219201',
  '=',
  ' ',
  '/',
  '..',
];

export const tarPartsTarget: FuzzTarget = {
  name: 'tar-parts',
  claim: 'numbers, times, PAX records and sparse maps of a tar are TAR_INVALID or within their types',
  codes: ['TAR_INVALID'],
  testCases: 4000,
  makeInput(dice) {
    if (dice.chance(0.3)) return makeExtension(dice).subarray(512);
    if (dice.chance(0.5)) return Buffer.from(makeText(dice, WORDS));
    const field = dice.bytes(dice.pick([8, 12]));
    writeTarNumber(dice, field);
    return field;
  },
  read(input) {
    const text = decodeRawText(input);
    const attempts = [
      () => readNumber(input),
      () => readTime(text),
      () => readRecords(text),
      () => void new SparseDataMap(2 ** 40).take(text),
      () => readRaw(text),
    ];
    const failures = attempts.map(attempt);
    // Raw text is never refused.
    const refused = failures.filter((failure) => failure !== undefined);
    const [first] = refused;
    if (first !== undefined && refused.length === attempts.length - 1) throw first;
  },
};

/** Returns the expected error, so that the other attempts run too. */
function attempt(read: () => void): Error | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    if (isSpandrelError(error, 'TAR_INVALID')) return error;
    throw error;
  }
}

function readNumber(input: Buffer): void {
  const value = parseNumeric(input, { start: 0, length: Math.min(input.length, 12) });
  ok(typeof value === 'number' ? Number.isSafeInteger(value) : value === BigInt.asIntN(64, value));
  const wrapped = wrapUint32(value);
  ok(wrapped >= 0 && wrapped < 2 ** 32);
}

function readTime(text: RawText): void {
  const time = parsePaxTime(text);
  ok(time.nanoseconds >= 0 && time.nanoseconds < 1e9);
  const printed = formatTime(time);
  ok(printed === '' || /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(printed));
  const number = parseDecimal(text.split('.')[0] ?? '');
  ok(typeof number === 'number' ? Number.isSafeInteger(number) : number === BigInt.asIntN(64, number));
}

function readRecords(text: RawText): void {
  const records = parsePaxRecords(text);
  for (const [key, value] of records) ok(key !== '' && key.length + value.length < text.length + 20);
  paxSparseSize(records);
  parseSparseRecords(records, 2 ** 40);
}

function readRaw(text: RawText): void {
  ok(encodeRawText(text).length === text.length);
  equal(cleanPath(cleanPath(text)), cleanPath(text));
  parseRawText(printRawText(text));
}
