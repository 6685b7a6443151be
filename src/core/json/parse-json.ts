import { scanJson } from './scan-json.ts';

/** No manifest or image config that a node can use has more. */
const MAX_VALUES = 50_000;
const MAX_DEPTH = 200;

/** The document exceeds a limit of {@link parseJson}. */
export class JsonTooLarge extends SyntaxError {}

/**
 * Parses untrusted JSON. `JSON.parse` needs time and memory for each value: four megabytes of `[],` become
 * two million objects. In Node.js 26 it damages memory if a text is nested 15,000 levels deep and breaks off:
 * the process crashes. So values and levels are counted first.
 * @throws SyntaxError if `bytes` are not JSON; {@link JsonTooLarge} if the JSON is nested more than 200
 * levels deep or has more than `maxValues` values
 */
export function parseJson(bytes: Uint8Array, maxValues = MAX_VALUES): unknown {
  checkJsonShape(bytes, maxValues);
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
}

/** Counts values and levels without parsing. @throws JsonTooLarge as {@link parseJson} */
export function checkJsonShape(bytes: Uint8Array, maxValues = MAX_VALUES): void {
  let values = 1;
  scanJson(bytes, 0, (token, depth) => {
    if (token !== 'comma' && token !== 'open') return;
    values++;
    if (token === 'open' && depth >= MAX_DEPTH)
      throw new JsonTooLarge(`JSON is nested more than ${MAX_DEPTH} levels deep`);
    if (values > maxValues) throw new JsonTooLarge(`JSON has more than ${maxValues} values`);
  });
}

/** True for a JSON object: not `null`, not a list. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
