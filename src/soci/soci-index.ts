import type { Descriptor } from '../core/descriptor.ts';
import { type Digest, digestOf } from '../core/digest.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import { ZTOC_BUILD_TOOL } from '../ztoc/ztoc.ts';
import { encodeGoJson, type GoJson, goMap } from './go-json.ts';

/**
 * The config blob of every SOCI index. The snapshotter never fetches it, but registries and containerd do.
 */
export const EMPTY_CONFIG = Buffer.from('{}');
export const EMPTY_CONFIG_DIGEST: Digest = digestOf(EMPTY_CONFIG);

export interface SociLayer {
  readonly layer: Pick<Descriptor, 'digest' | 'mediaType'>;
  /** Span size of the zTOC. */
  readonly spanBytes: number;
  readonly ztoc: { readonly digest: Digest; readonly sizeBytes: number };
  /** No file of the layer has extended attributes (`soci`'s `xattr` optimization). */
  readonly disableXattrs?: boolean;
}

/** Lists spans of one layer that the snapshotter fetches at mount. */
export interface PrefetchArtifact {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly layerDigest: Digest;
}

export interface SociIndexInput {
  /** Layers with a zTOC, in the order of the image. */
  readonly layers: readonly SociLayer[];
  /** Listed after the zTOCs. Snapshotters before 0.13 read one as a zTOC and fail. */
  readonly prefetch?: readonly PrefetchArtifact[];
  /** The image manifest of a v1 index; a v2 index has none. */
  readonly subject?: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>;
}

export interface SociIndex {
  readonly bytes: Buffer;
  readonly descriptor: Descriptor;
}

/**
 * Encodes a SOCI index manifest as `MarshalIndex` does (soci-snapshotter `soci/soci_index.go`): v1 with a
 * subject, v2 without. The descriptor is that of a Referrers API response.
 */
export function encodeSociIndex(input: SociIndexInput): SociIndex {
  const artifactType = input.subject === undefined ? MEDIA_TYPES.sociIndexV2 : MEDIA_TYPES.sociIndexV1;
  const annotations = { 'com.amazon.soci.build-tool-identifier': ZTOC_BUILD_TOOL };
  const { subject } = input;
  const json = encodeGoJson({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: artifactType, digest: EMPTY_CONFIG_DIGEST, size: EMPTY_CONFIG.byteLength },
    layers: [...input.layers.map(ztocDescriptor), ...(input.prefetch ?? []).map(prefetchDescriptor)],
    subject: subject && { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    annotations: goMap(annotations),
  });
  const bytes = Buffer.from(json);
  const descriptor = {
    mediaType: MEDIA_TYPES.ociManifest,
    digest: digestOf(bytes),
    size: bytes.byteLength,
    annotations,
    artifactType,
  };
  return { bytes, descriptor };
}

function ztocDescriptor({ layer, spanBytes, ztoc, disableXattrs }: SociLayer): GoJson {
  return {
    mediaType: MEDIA_TYPES.octetStream,
    digest: ztoc.digest,
    size: ztoc.sizeBytes,
    annotations: goMap({
      'com.amazon.soci.image-layer-digest': layer.digest,
      'com.amazon.soci.image-layer-mediaType': layer.mediaType,
      'com.amazon.soci.span-size': String(spanBytes),
      ...(disableXattrs ? { 'com.amazon.soci.disable-xattrs': 'true' } : {}),
    }),
  };
}

function prefetchDescriptor({ bytes, digest, layerDigest }: PrefetchArtifact): GoJson {
  return {
    mediaType: MEDIA_TYPES.sociPrefetch,
    digest,
    size: bytes.byteLength,
    annotations: goMap({ 'com.amazon.soci.image-layer-digest': layerDigest }),
  };
}
