import { type ErrorCode, ERRORS } from '../../core/errors.ts';
import { layerCompression } from '../../core/layer-compression.ts';
import type { LayerDescription } from '../../images/lazy/layers.ts';

/** Why a layer is fetched whole and what to do about it, by error code. */
const CAUSES: Partial<Record<ErrorCode, string>> = {
  LAYER_CORRUPT: 'its compressed stream is damaged or cut short: push the image again',
  LAYER_TOO_LARGE:
    'it exceeds limits.maxUncompressedBytes, limits.maxTocEntries (files) or limits.maxTocBytes (names ' +
    'and attributes): raise them',
  TAR_INVALID: 'it is not a well-formed tar: build the image again',
  TAR_UNSUPPORTED: 'it has entries that SOCI cannot index, such as sparse files: build it without them',
  INDEX_UNMOUNTABLE: 'the snapshotter would refuse its index',
  BLOB_UNKNOWN: 'push it there, or mirror the image again: no node can pull it either',
  BLOB_CORRUPT: 'the bytes from the registry do not match the digest: push the layer again',
  DIGEST_INVALID: 'build the image again with sha256 digests: no node can verify it either',
  STORE_FULL: 'the store is full: raise storage.maxBytes or free the disk',
};

const FOREIGN =
  'nodes fetch it from the addresses in the manifest; to make it lazy, push it to the registry ' +
  '(allow-nondistributable-artifacts)';
const ZSTD = 'its compression has no zTOC (zstd): build the image with gzip layers';
const ENCRYPTED = 'it is encrypted: only nodes can read it';

/** Explains why a layer is fetched whole, and what to do about it. */
export function explainWholeLayer(layer: LayerDescription): string {
  const { skipped, mediaType, reason, message, state } = layer;
  if (mediaType?.includes('+encrypted') === true) return ENCRYPTED;
  if (skipped === 'too_small') return 'it is smaller than index.minLayerBytes';
  if (skipped === 'unsupported_format' && reason === undefined) return explainMediaType(mediaType ?? '');
  if (reason === undefined) return state;
  if (reason === 'BLOB_UNKNOWN' && layer.foreign === true) return `the registry does not have it: ${FOREIGN}`;
  if (reason === 'LAYER_UNSUPPORTED' && state === 'readable') return ZSTD;
  const advice =
    CAUSES[reason] ?? (ERRORS[reason].retryable ? 'the next pull tries it again' : ERRORS[reason].meaning);
  return message === undefined ? advice : `${message}: ${advice}`;
}

function explainMediaType(mediaType: string): string {
  if (layerCompression(mediaType) === 'zstd') return ZSTD;
  return isLayerType(mediaType)
    ? `SOCI has no zTOC for layers of the type ${mediaType}`
    : `it is not a layer of a container image (${mediaType || 'without a media type'})`;
}

/** True for the media type of a container image layer of any compression. */
export function isLayerType(mediaType: string): boolean {
  return /^application\/vnd\.(oci\.image\.layer\.|docker\.image\.rootfs\.)/.test(mediaType);
}
