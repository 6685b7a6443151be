import { type ErrorCode, ERRORS } from '../../../core/errors.ts';
import { layerCompression } from '../../../core/layer-compression.ts';
import type { LayerDescription } from '../../../images/lazy/layers.ts';

/** Why a layer is fetched whole, by error code. */
const CAUSES: Partial<Record<ErrorCode, string>> = {
  LAYER_CORRUPT: 'its compressed stream is damaged or cut short',
  LAYER_TOO_LARGE: 'it exceeds a limit of the proxy',
  TAR_INVALID: 'it is not a well-formed tar',
  TAR_UNSUPPORTED: 'it has entries that SOCI cannot index, such as sparse files',
  INDEX_UNMOUNTABLE: 'the snapshotter would refuse its index',
  RANGE_TOO_COSTLY: 'its zstd frames are too large',
  BLOB_UNKNOWN: 'no node can pull it',
  BLOB_CORRUPT: 'the bytes from the registry do not match the digest',
  DIGEST_INVALID: 'its digest is invalid',
  STORE_FULL: 'the store of the proxy is full',
};

const FOREIGN =
  'nodes fetch it from the addresses in the manifest; to make it lazy, push it to the registry ' +
  '(allow-nondistributable-artifacts)';
const ZSTD =
  'its compression has no zTOC (zstd): set index.v2Form to inflated, or build the image with gzip layers';
const ENCRYPTED = 'it is encrypted: only nodes can read it';

/** Explains why a layer is fetched whole. What to do about it: {@link nextStep}. */
export function explainWholeLayer(layer: LayerDescription): string {
  const { skipped, mediaType, reason, message, state } = layer;
  if (mediaType?.includes('+encrypted') === true) return ENCRYPTED;
  if (skipped === 'too_small') return `it is smaller than ${describeMinimum(layer)}`;
  if (skipped === 'unsupported_format' && reason === undefined) return explainMediaType(mediaType ?? '');
  if (reason === undefined) return state;
  if (reason === 'BLOB_UNKNOWN' && layer.foreign === true) return `the registry does not have it: ${FOREIGN}`;
  if (reason === 'LAYER_UNSUPPORTED' && state === 'readable') return ZSTD;
  const cause = CAUSES[reason] ?? ERRORS[reason].meaning;
  return message === undefined ? cause : `${message}: ${cause}`;
}

/** The bound that a small layer is below, and where it is set. */
export function describeMinimum({ minLayerBytes }: Pick<LayerDescription, 'minLayerBytes'>): string {
  if (minLayerBytes === undefined) return 'index.minLayerBytes';
  return (
    `${(minLayerBytes / 1e6).toFixed(1)} MB, the minLayerBytes of the first entry of index.rules for this ` +
    'repository, or else of index'
  );
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
