/**
 * Media types of the OCI image spec, of Docker's schema 2 and of SOCI (soci-snapshotter
 * `soci/soci_index.go`).
 */
export const MEDIA_TYPES = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifest1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSigned1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  orasArtifact: 'application/vnd.cncf.oras.artifact.manifest.v1+json',
  sociIndexV1: 'application/vnd.amazon.soci.index.v1+json',
  sociIndexV2: 'application/vnd.amazon.soci.index.v2+json',
  sociPrefetch: 'application/vnd.amazon.soci.prefetch.v1+json',
  octetStream: 'application/octet-stream',
} as const;

/** Media types of manifests that the proxy understands, and that it asks upstreams for. */
export const MANIFEST_MEDIA_TYPES = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerList,
  MEDIA_TYPES.dockerManifest,
] as const;

/** Types that the proxy passes on unchanged. */
const OTHER_MANIFEST_TYPES = [
  MEDIA_TYPES.dockerManifest1,
  MEDIA_TYPES.dockerSigned1,
  MEDIA_TYPES.ociArtifact,
  MEDIA_TYPES.orasArtifact,
] as const;

/** Media types under which the proxy serves manifests. Browsers render or execute none of them. */
export type ManifestType =
  | (typeof MANIFEST_MEDIA_TYPES)[number]
  | (typeof OTHER_MANIFEST_TYPES)[number]
  | typeof MEDIA_TYPES.octetStream;

const MANIFEST_TYPES: ReadonlyMap<string, ManifestType> = new Map(
  [...MANIFEST_MEDIA_TYPES, ...OTHER_MANIFEST_TYPES].map((type) => [type, type]),
);

/** The type to serve a manifest under whose own `mediaType` this is. */
export function manifestTypeOf(mediaType: string): ManifestType {
  return MANIFEST_TYPES.get(mediaType.toLowerCase()) ?? MEDIA_TYPES.octetStream;
}

/** True for an image index or a Docker manifest list. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPES.ociIndex || mediaType === MEDIA_TYPES.dockerList;
}

/** True for the manifest of an image for one platform, or of an artifact. */
export function isManifestType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPES.ociManifest || mediaType === MEDIA_TYPES.dockerManifest;
}

/** Compression of a layer's tar. */
export type LayerCompression = 'gzip' | 'zstd' | 'none';
