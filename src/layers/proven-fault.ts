import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';

/** Faults of the layer itself: its verified bytes fail in the same way each time, in any repository. */
const LAYER_FAULTS: readonly ErrorCode[] = [
  'LAYER_TOO_LARGE',
  'LAYER_UNSUPPORTED',
  'LAYER_CORRUPT',
  'TAR_INVALID',
  'TAR_UNSUPPORTED',
  'INDEX_UNMOUNTABLE',
];

/** The code of a fault of a layer that `code` is. */
export function findLayerFault(code: unknown): ErrorCode | undefined {
  return LAYER_FAULTS.find((known) => known === code);
}

/** True if a build that failed with `code` fails each time. */
export function isLayerFault(code: ErrorCode): boolean {
  return LAYER_FAULTS.includes(code);
}

/** A fault of a layer, found in bytes that match its digest. */
export class ProvenFault extends SpandrelError {}

/** Converts the error of a build. Call only after the bytes that it read were verified. */
export function provenFault(error: unknown): unknown {
  if (!isSpandrelError(error) || !isLayerFault(error.code)) return error;
  const { code, message, cause, detail } = error;
  return new ProvenFault(code, message, { cause, ...(detail === undefined ? {} : { detail }) });
}
