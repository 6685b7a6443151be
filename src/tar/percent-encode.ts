import { SpandrelError } from '../core/errors.ts';
import type { RawText } from './raw-text.ts';

const ESCAPE_BYTES = 3;
const PERCENT = 0x25;
const DIGITS = Buffer.from('0123456789ABCDEF');
/** 1 for each byte that stays as it is. */
const isUnescaped = Uint8Array.from({ length: 256 }, (_, byte) =>
  /[A-Za-z0-9._~/-]/.test(String.fromCharCode(byte)) ? 1 : 0,
);

/**
 * Bytes in the form of a URL path (RFC 3986): everything but unreserved characters and slashes is escaped.
 */
export function percentEncode(raw: RawText): string {
  const encoded = Buffer.allocUnsafe(ESCAPE_BYTES * raw.length);
  let end = 0;
  for (let at = 0; at < raw.length; at++) {
    const byte = raw.charCodeAt(at);
    if (isUnescaped[byte] === 1) encoded[end++] = byte;
    else {
      encoded[end++] = PERCENT;
      encoded[end++] = DIGITS[byte >> 4] ?? 0;
      encoded[end++] = DIGITS[byte & 15] ?? 0;
    }
  }
  return encoded.toString('latin1', 0, end);
}

/**
 * The bytes of percent-encoded text.
 * @throws SpandrelError QUERY_INVALID for a `%` without two hex digits
 */
export function percentDecode(text: string): RawText {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return bytes.replace(/%([0-9a-fA-F]{2})?/g, (escape, hex: string | undefined) => {
    if (hex === undefined)
      throw new SpandrelError('QUERY_INVALID', `the URL has a broken percent-encoding: ${escape}`);
    return String.fromCharCode(Number.parseInt(hex, 16));
  }) as RawText;
}
