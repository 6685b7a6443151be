import { SpandrelError } from '../core/errors.ts';
import type { RawText } from './raw-text.ts';

/** Bytes as they stand in the path of a URL (RFC 3986): all but unreserved characters and slashes are escaped. */
export function percentEncode(raw: RawText): string {
  return raw.replace(
    /[^A-Za-z0-9._~/-]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

/** The bytes of percent-encoded text. @throws SpandrelError QUERY_INVALID for a `%` without two hex digits */
export function percentDecode(text: string): RawText {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return bytes.replace(/%([0-9a-fA-F]{2})?/g, (escape, hex: string | undefined) => {
    if (hex === undefined)
      throw new SpandrelError('QUERY_INVALID', `the URL has a broken percent-encoding: ${escape}`);
    return String.fromCharCode(Number.parseInt(hex, 16));
  }) as RawText;
}
