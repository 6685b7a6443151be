import { SpandrelError } from '../core/errors.ts';

const MAX_INT64 = 2n ** 63n - 1n;
const MIN_INT64 = -(2n ** 63n);
const MAX_UINT64 = 2n ** 64n - 1n;
const MAX_INT64_DIGITS = 19;
const NUL = 0;
const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;
/** Octal digits that always fit into a safe integer. */
const SAFE_OCTAL_DIGITS = 17;

/** Position of a field in a header block. */
export interface Field {
  readonly start: number;
  readonly length: number;
}

/**
 * A numeric field: octal digits, or big-endian two's complement if the first bit is set (Go `archive/tar`,
 * parseNumeric). A bigint if the value is not a safe integer.
 * @throws SpandrelError TAR_INVALID
 */
export function parseNumeric(block: Uint8Array, field: Field): number | bigint {
  return (block[field.start] ?? 0) & 0x80 ? parseBase256(block, field) : parseOctal(block, field);
}

function parseBase256(block: Uint8Array, { start, length }: Field): number | bigint {
  const first = block[start] ?? 0;
  const inverted = first & 0x40 ? 0xff : 0;
  let value = BigInt((first ^ inverted) & 0x7f);
  for (let at = start + 1; at < start + length; at++) {
    value = (value << 8n) | BigInt((block[at] ?? 0) ^ inverted);
  }
  if (value > MAX_INT64) throw invalidNumber();
  return exactNumber(inverted === 0 ? value : -value - 1n);
}

/** Ignores spaces and NULs around the digits; a NUL inside ends the number (Go `archive/tar`, parseOctal). */
export function parseOctal(block: Uint8Array, field: Field): number | bigint {
  let start = field.start;
  let end = field.start + field.length;
  while (start < end && isPadding(block[start])) start++;
  while (end > start && isPadding(block[end - 1])) end--;
  if (start === end) return 0;
  const nul = block.subarray(start, end).indexOf(NUL);
  if (nul >= 0) end = start + nul;
  if (end - start > SAFE_OCTAL_DIGITS) return parseLongOctal(block.subarray(start, end));
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = block[at] ?? 0;
    if (digit < ZERO || digit > SEVEN) throw invalidNumber();
    value = value * 8 + digit - ZERO;
  }
  return value;
}

function parseLongOctal(digits: Uint8Array): number | bigint {
  const text = Buffer.from(digits).toString('latin1');
  if (!/^[0-7]+$/.test(text)) throw invalidNumber();
  const value = BigInt(`0o${text}`);
  if (value > MAX_UINT64) throw invalidNumber();
  return exactNumber(BigInt.asIntN(64, value));
}

/**
 * Parses as Go's `strconv.ParseInt(text, 10, 64)`.
 * @throws SpandrelError TAR_INVALID
 */
export function parseDecimal(text: string): number | bigint {
  // Two steps: a single pattern for leading zeros and digits would backtrack over a megabyte of zeros.
  const digits = /^[+-]?([0-9]+)$/.exec(text)?.[1]?.replace(/^0+/, '');
  // A longer number is out of range anyway, and a bigint of a megabyte of digits takes long to make.
  if (digits === undefined || digits.length > MAX_INT64_DIGITS) throw invalidNumber();
  const value = BigInt(digits) * (text.startsWith('-') ? -1n : 1n);
  if (value > MAX_INT64 || value < MIN_INT64) throw invalidNumber();
  return exactNumber(value);
}

/** The low 32 bits of an int64, unsigned. */
export function wrapUint32(value: number | bigint): number {
  return Number(BigInt.asUintN(32, BigInt(value)));
}

function exactNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function isPadding(byte: number | undefined): boolean {
  return byte === SPACE || byte === NUL;
}

function invalidNumber(): SpandrelError {
  return new SpandrelError('TAR_INVALID', 'a tar header has a malformed number');
}
