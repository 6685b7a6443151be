declare const RAW: unique symbol;

/**
 * Bytes of a tar string, one character (U+0000 to U+00FF) for each byte. Tar names need not be UTF-8; in this form they stay exact,
 * can be keys of maps, and sort bytewise.
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

/** Raw text of ordinary text, as UTF-8. */
export function parseRawText(text: string): RawText {
  return isAscii(text) ? (text as RawText) : decodeRawText(Buffer.from(text, 'utf8'));
}

/** For display: bytes that are not UTF-8 become U+FFFD. */
export function printRawText(raw: RawText): string {
  return isAscii(raw) ? raw : encodeRawText(raw).toString('utf8');
}

/**
 * A path without `.`, empty segments and slashes at its ends; `..` takes back the segment before it and stops at the root, as
 * unpackers do. The root itself is the empty text.
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

const NEEDS_CLEANING = /^\/|\/\/|\/$|(?:^|\/)\.{1,2}(?:\/|$)/;

// eslint-disable-next-line no-control-regex -- all of ASCII is meant
const ASCII = /^[\u0000-\u007f]*$/;

function isAscii(text: string): boolean {
  return ASCII.test(text);
}
