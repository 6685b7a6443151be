import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';

/** What the verified bytes of a layer prove: it fails the same way each time, whoever has it. */
const LAYER_FAULTS: readonly ErrorCode[] = [
  'LAYER_TOO_LARGE',
  'LAYER_UNSUPPORTED',
  'LAYER_CORRUPT',
  'TAR_INVALID',
  'TAR_UNSUPPORTED',
  'INDEX_UNMOUNTABLE',
];

/** True if a build that failed with `code` fails each time. */
export function isLayerFault(code: ErrorCode): boolean {
  return LAYER_FAULTS.includes(code);
}

/** A fault of a layer, found in bytes that have its digest. */
export class ProvenFault extends SpandrelError {}

/** `error` of a build, to be called only when the bytes that it has read have been found to be the layer. */
export function provenFault(error: unknown): unknown {
  if (!isSpandrelError(error) || !isLayerFault(error.code)) return error;
  const { code, message, cause, detail } = error;
  return new ProvenFault(code, message, { cause, ...(detail === undefined ? {} : { detail }) });
}
