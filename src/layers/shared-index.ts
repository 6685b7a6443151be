import { SpandrelError } from '../core/errors.ts';

/** An index and its zTOC as replicas share them: in one value, so that neither exists without the other. */
export interface SharedIndex {
  /** An index file. */
  readonly index: Uint8Array;
  /** In the form of the zTOC store; empty if the layer has none. */
  readonly ztoc: Uint8Array;
}

const LENGTH_BYTES = 4;

/** The length of the zTOC, the zTOC, the index. */
export function encodeSharedIndex({ index, ztoc }: SharedIndex): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(ztoc.byteLength);
  return Buffer.concat([length, ztoc, index]);
}

/**
 * Views of `bytes`, whose content is not verified.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function decodeSharedIndex(bytes: Uint8Array): SharedIndex {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (all.byteLength < LENGTH_BYTES) throw malformed();
  const indexStart = LENGTH_BYTES + all.readUInt32LE();
  if (indexStart > all.byteLength) throw malformed();
  return { ztoc: all.subarray(LENGTH_BYTES, indexStart), index: all.subarray(indexStart) };
}

function malformed(): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', 'a shared index is damaged');
}
