import { parseJson } from './parse-json.ts';

/**
 * The value of a JSON text that the proxy wrote; `undefined` if it is not JSON, or is nested as
 * {@link parseJson} forbids: who can write to Redis may have written it. Does not bound its size.
 */
export function tryParseJson(text: string): unknown {
  try {
    return parseJson(Buffer.from(text), Number.POSITIVE_INFINITY);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
