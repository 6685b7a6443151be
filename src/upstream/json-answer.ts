import { SpandrelError } from '../core/errors.ts';

/** The JSON object in the body of an upstream's answer. @throws SpandrelError UPSTREAM_PROTOCOL */
export function parseJsonObject(upstream: string, bytes: Uint8Array): Record<string, unknown> {
  const value = parse(bytes);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: the answer is no JSON object`);
  }
  return value as Record<string, unknown>;
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch {
    return undefined;
  }
}
