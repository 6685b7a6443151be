import { isUtf8 } from 'node:buffer';

import { escapeControls } from '../core/escape-controls.ts';
import { utf8CharacterBytes } from '../core/json/utf8-character-bytes.ts';
import { percentDecode, percentEncode } from './percent-encode.ts';

declare const RAW: unique symbol;

/**
 * Bytes of a string in a tar, one character (U+0000 to U+00FF) for each byte. Tar names need not be UTF-8; in
 * this form they stay exact, can be keys of maps, and sort bytewise.
 */
export type RawText = string & { readonly [RAW]: true };

export const EMPTY_RAW_TEXT = '' as RawText;

/** The bytes as raw text. */
export function decodeRawText(bytes: Uint8Array): RawText {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1') as RawText;
}

/** The bytes that `raw` stands for. */
export function encodeRawText(raw: RawText): Buffer {
  return Buffer.from(raw, 'latin1');
}

/** Ordinary text as raw text, encoded in UTF-8. */
export function parseRawText(text: string): RawText {
  return isAscii(text) ? (text as RawText) : decodeRawText(Buffer.from(text, 'utf8'));
}

/**
 * Readable text. Bytes that are not UTF-8 become `\xHH`, and backslashes in such names `\\`. Not exact:
 * another name may print the same. {@link describeRawText} is exact.
 */
export function printRawText(raw: RawText): string {
  if (isAscii(raw)) return raw;
  const bytes = encodeRawText(raw);
  if (isUtf8(bytes)) return bytes.toString('utf8');
  const printed = Buffer.allocUnsafe(ESCAPE_BYTES * bytes.length);
  let end = 0;
  for (let at = 0; at < bytes.length;) {
    const length = utf8CharacterBytes(bytes, at);
    if (length === 0) {
      printed[end++] = BACKSLASH;
      printed[end++] = LETTER_X;
      printed[end++] = DIGITS[(bytes[at] ?? 0) >> 4] ?? 0;
      printed[end++] = DIGITS[(bytes[at] ?? 0) & 15] ?? 0;
    }
    if (bytes[at] === BACKSLASH) printed[end++] = BACKSLASH;
    for (let place = 0; place < length; place++) printed[end++] = bytes[at + place] ?? 0;
    at += Math.max(1, length);
  }
  return printed.toString('utf8', 0, end);
}

/** One line for a terminal, which bash's `$'…'` turns back into the same bytes. */
export function printForTerminal(raw: RawText): string {
  const isExact = isAscii(raw) || isUtf8(encodeRawText(raw));
  const text = printRawText(raw);
  return escapeControls(isExact ? text.replaceAll('\\', '\\\\') : text);
}

/** Fields of a JSON object: the text and, if it is not UTF-8, its bytes, percent-encoded. */
export function describeRawText<Key extends string>(key: Key, raw: RawText): Described<Key> {
  const isExact = isAscii(raw) || isUtf8(encodeRawText(raw));
  return {
    [key]: printRawText(raw),
    ...(isExact ? {} : { [`${key}Bytes`]: percentEncode(raw) }),
  } as Described<Key>;
}

/**
 * Reverses {@link describeRawText}.
 * @throws SpandrelError QUERY_INVALID
 */
export function parseDescribed(text: string, bytes: string | undefined): RawText {
  return bytes === undefined ? parseRawText(text) : percentDecode(bytes);
}

/** Result of {@link describeRawText}. */
export type Described<Key extends string> = { readonly [K in Key]: string } & {
  readonly [K in `${Key}Bytes`]?: string;
};

/**
 * The path without `.`, empty segments and slashes at its ends. `..` removes the segment before it and stops
 * at the root, as in unpackers. The root is the empty text.
 */
export function cleanPath(raw: RawText): RawText {
  if (!NEEDS_CLEANING.test(raw)) return raw;
  const segments: string[] = [];
  for (const segment of raw.split('/')) {
    if (segment === '' || segment === '.') continue;
    if (segment === '..') segments.pop();
    else segments.push(segment);
  }
  return segments.join('/') as RawText;
}

const BACKSLASH = 0x5c;
const LETTER_X = 0x78;
const DIGITS = Buffer.from('0123456789abcdef');
/** `\xHH` */
const ESCAPE_BYTES = 4;

const NEEDS_CLEANING = /^\/|\/\/|\/$|(?:^|\/)\.{1,2}(?:\/|$)/;

// eslint-disable-next-line no-control-regex -- all of ASCII
const ASCII = /^[\u0000-\u007f]*$/;

function isAscii(text: string): boolean {
  return ASCII.test(text);
}
