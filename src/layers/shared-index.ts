import { SpandrelError } from '../core/errors.ts';

/** An index and its zTOC as replicas share them: in one value, so that neither is there without the other. */
export interface SharedIndex {
  /** An index file. */
  readonly index: Uint8Array;
  /** As the zTOC store keeps it; empty for a layer without one. */
  readonly ztoc: Uint8Array;
}

const LENGTH_BYTES = 4;

/** The length of the zTOC, the zTOC, the index. */
export function encodeSharedIndex({ index, ztoc }: SharedIndex): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(ztoc.byteLength);
  return Buffer.concat([length, ztoc, index]);
}

/** Views of `bytes`, which are not checked. @throws SpandrelError INDEX_MALFORMED */
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
