/** More than any manifest or image config has that a node can use. */
const MAX_VALUES = 50_000;
const MAX_DEPTH = 200;

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** A document with more values, or more levels, than are parsed. */
export class JsonTooLarge extends SyntaxError {}

/**
 * JSON that strangers have written. `JSON.parse` takes time and memory for each value: four megabytes of `[],` become two million
 * objects, so the values are counted first.
 * @throws SyntaxError if it is no JSON; {@link JsonTooLarge} if it is nested more than 200 levels deep or has more than `maxValues` values
 */
export function parseJson(bytes: Uint8Array, maxValues = MAX_VALUES): unknown {
  checkJsonShape(bytes, maxValues);
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
}

/** Looks at each byte once; 4 MiB take some 10 ms. @throws JsonTooLarge as {@link parseJson} */
export function checkJsonShape(bytes: Uint8Array, maxValues = MAX_VALUES): void {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) at = endOfString(bytes, at);
    else if (byte === COMMA) values++;
    else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      values++;
      if (++depth > MAX_DEPTH) throw new JsonTooLarge(`JSON is nested more than ${MAX_DEPTH} levels deep`);
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--;
    if (values > maxValues) throw new JsonTooLarge(`JSON has more than ${maxValues} values`);
  }
}

/** The last quote of the string whose first one is at `start`. */
export function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

/** True for what `{…}` is in JSON: neither `null` nor a list. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
