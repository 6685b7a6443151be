import { SpandrelError } from '../../core/errors.ts';
import { isJsonObject, parseJson } from '../../core/json/parse-json.ts';
import { parseJsonList } from '../../core/json/parse-json-list.ts';

/**
 * Parses the JSON object in a response body with the limits of {@link parseJson}. @throws SpandrelError
 * UPSTREAM_PROTOCOL
 */
export function parseJsonObject(upstream: string, bytes: Uint8Array): Record<string, unknown> {
  try {
    return assertObject(upstream, parseJson(bytes));
  } catch (error) {
    throw protocolError(upstream, error);
  }
}

/** As {@link parseJsonObject}, for an object with a long list: see {@link parseJsonList}. */
export async function parseObjectWithList(
  upstream: string,
  bytes: Uint8Array,
  key: string,
): Promise<Record<string, unknown>> {
  try {
    return assertObject(upstream, await parseJsonList(bytes, key));
  } catch (error) {
    throw protocolError(upstream, error);
  }
}

function assertObject(upstream: string, value: unknown): Record<string, unknown> {
  if (isJsonObject(value)) return value;
  throw noObject(upstream);
}

function protocolError(upstream: string, error: unknown): unknown {
  return error instanceof SyntaxError ? noObject(upstream) : error;
}

function noObject(upstream: string): SpandrelError {
  return new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: the response is not a JSON object`);
}
