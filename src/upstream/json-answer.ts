import { SpandrelError } from '../core/errors.ts';
import { isJsonObject } from '../core/json-object.ts';

/** The JSON object in the body of an upstream's answer. @throws SpandrelError UPSTREAM_PROTOCOL */
export function parseJsonObject(upstream: string, bytes: Uint8Array): Record<string, unknown> {
  const value = parse(bytes);
  if (isJsonObject(value)) return value;
  throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: the answer is no JSON object`);
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch {
    return undefined;
  }
}
