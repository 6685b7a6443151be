import { type Digest, isDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import { decodeOciManifest, encodeOciManifest, type OciManifest } from './oci-manifest.ts';

/** A zTOC that a SOCI index lists. */
export interface PushedLayer {
  readonly layer: Digest;
  readonly ztoc: Digest;
  readonly sizeBytes: number;
}

export interface PushedSociIndex {
  readonly version: 'v1' | 'v2';
  readonly layers: readonly PushedLayer[];
}

/**
 * Parses a pushed SOCI index manifest, v1 or v2. Skips prefetch artifacts.
 * @param subject the image manifest that a v1 index must belong to
 * @throws SpandrelError INDEX_MALFORMED, also if the snapshotter would refuse the index: it encodes the index
 * again and compares
 */
export function parseSociIndex(bytes: Uint8Array, subject: Digest): PushedSociIndex {
  const index = decode(bytes);
  const type = index.config.mediaType;
  if (type !== MEDIA_TYPES.sociIndexV1 && type !== MEDIA_TYPES.sociIndexV2)
    throw malformed(`its config is ${type}`);
  if (!encodeOciManifest(index).equals(bytes))
    throw malformed('it is not encoded as the snapshotter encodes it');
  if (type === MEDIA_TYPES.sociIndexV1 && index.subject?.digest !== subject)
    throw malformed('it belongs to another image');
  const ztocs = (index.layers ?? []).filter(({ mediaType }) => mediaType !== MEDIA_TYPES.sociPrefetch);
  if (ztocs.length === 0) throw malformed('it lists no zTOCs');
  const layers = ztocs.map(({ digest, size, annotations }) => {
    const layer = annotations?.get('com.amazon.soci.image-layer-digest') ?? '';
    if (!isDigest(digest) || !isDigest(layer) || size < 0) throw malformed('it has an entry without digests');
    return { layer, ztoc: digest, sizeBytes: size };
  });
  return { version: type === MEDIA_TYPES.sociIndexV1 ? 'v1' : 'v2', layers };
}

function decode(bytes: Uint8Array): OciManifest {
  try {
    return decodeOciManifest(bytes);
  } catch (error) {
    if (isSpandrelError(error, 'IMAGE_UNSUPPORTED')) throw malformed(error.message);
    throw error;
  }
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the SOCI index is damaged: ${problem}`);
}
