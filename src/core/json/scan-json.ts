const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** A string, an opening or closing bracket or brace, a comma. Other tokens of JSON are skipped. */
export type JsonToken = 'string' | 'open' | 'close' | 'comma';

/**
 * Called for each token in `bytes[start, end)`; returns true to stop the scan.
 * @param depth lists and objects that were opened around the token since the start of the scan
 */
export type VisitToken = (token: JsonToken, depth: number, start: number, end: number) => boolean | void;

/**
 * Scans the structure of JSON text without parsing it, once over each byte; 4 MiB take about 10 ms. The text
 * need not be valid.
 * @param from where to start; must be outside a string
 * @returns the position of the token that stopped the scan, else `bytes.length`
 */
export function scanJson(bytes: Uint8Array, from: number, visit: VisitToken): number {
  let depth = 0;
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      const end = endOfString(bytes, at);
      if (visit('string', depth, at, end) === true) return at;
      at = end - 1;
    } else if (byte === COMMA) {
      if (visit('comma', depth, at, at + 1) === true) return at;
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (visit('open', depth++, at, at + 1) === true) return at;
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      if (visit('close', --depth, at, at + 1) === true) return at;
    }
  }
  return bytes.length;
}

/** The position after the closing quote of the string that opens at `start`. */
function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at + 1;
}
