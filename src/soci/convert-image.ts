import type { ManifestDocument } from '../core/manifest-document.ts';
import type { Descriptor } from '../core/descriptor.ts';
import { matchesPlatform, type Platform } from '../core/platform.ts';
import { digestOf } from '../core/digest.ts';
import { isIndexType, isManifestType, type ManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import {
  decodeOciIndex,
  decodeOciManifest,
  encodeOciIndex,
  encodeOciManifest,
  type OciDescriptor,
  type OciIndex,
} from './oci-manifest.ts';

/** Annotation of an image manifest: digest of its SOCI v2 index. */
export const INDEX_DIGEST_ANNOTATION = 'com.amazon.soci.index-digest';
/** Annotation of a SOCI index in an image index: digest of its image manifest. */
const MANIFEST_DIGEST = 'com.amazon.soci.image-manifest-digest';

/** Annotation of a layer: containerd makes it a label of the snapshot (soci-snapshotter `fs/fs.go`). */
export const SNAPSHOT_LABEL = 'containerd.io/snapshot/remote/soci.index.digest';

/** A SOCI v2 index and its image manifest. */
export interface PlatformIndex {
  readonly platform: Platform;
  /** Digest of the image manifest before conversion. */
  readonly manifestDigest: string;
  readonly index: Pick<Descriptor, 'digest' | 'size'>;
  /** Tars that take the places of layers, by place in the manifest. */
  readonly tars?: TarsOfImage;
  readonly boot?: BootLayerOfImage | undefined;
}

/** A layer on top of those of the manifest, and the config that has it. */
export interface BootLayerOfImage {
  readonly config: Pick<Descriptor, 'digest' | 'size'>;
  /** Compressed with gzip. */
  readonly layer: Pick<Descriptor, 'digest' | 'size'>;
}

export type TarsOfImage = ReadonlyMap<number, Pick<Descriptor, 'digest' | 'size'>>;

export interface ConvertedImage {
  /** The rewritten image manifests. */
  readonly manifests: readonly ManifestDocument[];
  /** The image index that lists them, followed by the SOCI indexes. */
  readonly top: ManifestDocument;
}

/** An image index of a single manifest. Its descriptor must have the platform. */
export function wrapManifest(target: OciDescriptor): OciIndex {
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    artifactType: '',
    manifests: [target],
    subject: undefined,
    annotations: undefined,
  };
}

export interface ConversionForm {
  /**
   * Whether to list the SOCI indexes after the image manifests, as `soci` does. Nodes find them without this.
   */
  readonly listsIndexes: boolean;
  /**
   * Whether to name the SOCI index in each layer's descriptor too. containerd makes it a label, which the
   * snapshotter trusts without asking a registry (containerd `core/unpack/unpacker.go`).
   */
  readonly labelsLayers: boolean;
}

export const SOCI_FORM: ConversionForm = { listsIndexes: true, labelsLayers: false };

/**
 * Rewrites an image with SOCI v2 indexes as `soci convert` does (soci-snapshotter `soci/soci_convert.go`):
 * all manifests become OCI manifests, those with a SOCI index name it in an annotation, and descriptors copy
 * the annotations. Nested indexes are rewritten too. SOCI indexes of an earlier conversion are replaced by
 * those for the same platform and kept otherwise, where `soci` fails.
 * @param readManifest bytes of the manifests and indexes that `image` leads to, no index twice on a way down;
 * `undefined` leaves a descriptor as it is
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export function convertImage(
  image: OciIndex,
  readManifest: (digest: string) => Uint8Array | undefined,
  indexes: readonly PlatformIndex[],
  form: ConversionForm,
): ConvertedImage {
  /** By digest before conversion: each is converted once, however often it is listed. */
  const converted = new Map<string, Converted | undefined>();
  const convert = (descriptor: OciDescriptor): Converted | undefined => {
    const { digest } = descriptor;
    if (!converted.has(digest)) {
      const bytes = isConvertible(descriptor) ? readManifest(digest) : undefined;
      const found = indexes.find(({ manifestDigest }) => manifestDigest === digest);
      if (bytes === undefined) converted.set(digest, undefined);
      else
        converted.set(
          digest,
          isIndexType(descriptor.mediaType) ? convertInner(bytes) : convertManifest(bytes, found, form),
        );
    }
    return converted.get(digest);
  };
  const convertList = (listed: readonly OciDescriptor[]): OciDescriptor[] =>
    listed.map((descriptor) => {
      const found = convert(descriptor);
      return found === undefined ? descriptor : describe(descriptor, found);
    });
  /** A nested index is unchanged if all its manifests are. */
  const convertInner = (bytes: Uint8Array): Converted | undefined => {
    const inner = decodeOciIndex(bytes);
    const listed = inner.manifests ?? [];
    const descriptors = convertList(listed);
    if (descriptors.every((descriptor, index) => descriptor === listed[index])) return undefined;
    const changed = { ...inner, mediaType: MEDIA_TYPES.ociIndex, manifests: descriptors };
    return { document: document(encodeOciIndex(changed), MEDIA_TYPES.ociIndex), annotations: undefined };
  };
  const descriptors = convertList(image.manifests ?? []);
  for (const index of form.listsIndexes ? indexes : [])
    placeIndex(descriptors, index, converted.get(index.manifestDigest)?.document.digest ?? '');
  const top = { ...image, mediaType: MEDIA_TYPES.ociIndex, manifests: descriptors };
  const manifests = [...converted.values()].flatMap((found) => found?.document ?? []);
  return { manifests, top: document(encodeOciIndex(top), MEDIA_TYPES.ociIndex) };
}

/** A rewritten manifest or nested index, and the annotations that its descriptor copies. */
interface Converted {
  readonly document: ManifestDocument;
  readonly annotations: ReadonlyMap<string, string> | undefined;
}

function describe(descriptor: OciDescriptor, { document, annotations }: Converted): OciDescriptor {
  const { digest, mediaType, bytes } = document;
  const changed = { ...descriptor, digest, size: bytes.byteLength, mediaType };
  return isIndexType(descriptor.mediaType) ? changed : { ...changed, annotations };
}

function isConvertible({ mediaType, artifactType }: OciDescriptor): boolean {
  return isIndexType(mediaType) || (isManifestType(mediaType) && artifactType !== MEDIA_TYPES.sociIndexV2);
}

/** Rewrites one image manifest, with its SOCI index if it has one. @throws SpandrelError IMAGE_UNSUPPORTED */
export function convertManifest(
  bytes: Uint8Array,
  indexed:
    (Pick<PlatformIndex, 'tars' | 'boot'> & { readonly index: Pick<Descriptor, 'digest'> }) | undefined,
  { labelsLayers }: Pick<ConversionForm, 'labelsLayers'>,
): Converted {
  const manifest = decodeOciManifest(bytes);
  const { index, tars, boot } = indexed ?? {};
  const layers = addBootLayer(replaceLayers(manifest.layers, tars), boot);
  const annotations =
    index === undefined
      ? manifest.annotations
      : new Map(manifest.annotations).set(INDEX_DIGEST_ANNOTATION, index.digest);
  const converted = {
    ...manifest,
    // Some registries refuse a mixture of Docker and OCI types.
    mediaType: MEDIA_TYPES.ociManifest,
    config: {
      ...manifest.config,
      mediaType: MEDIA_TYPES.ociConfig,
      // Places and content of another config.
      ...(boot === undefined ? {} : { ...boot.config, urls: undefined, data: undefined }),
    },
    layers: index !== undefined && labelsLayers ? labelLayers(layers, index) : layers,
    annotations,
  };
  return { document: document(encodeOciManifest(converted), MEDIA_TYPES.ociManifest), annotations };
}

/** Annotations that describe the compressed bytes: clients would look for tables of contents in the tar. */
const OF_COMPRESSED_BYTES =
  /^(io\.github\.containers\.zstd-chunked|containerd\.io\/snapshot\/stargz|io\.containers\.estargz)[./]/;

function replaceLayers(
  layers: readonly OciDescriptor[] | undefined,
  tars: TarsOfImage | undefined,
): readonly OciDescriptor[] | undefined {
  return layers?.map((layer, place) => {
    const tar = tars?.get(place);
    if (tar === undefined) return layer;
    const kept = [...(layer.annotations ?? [])].filter(([name]) => !OF_COMPRESSED_BYTES.test(name));
    return {
      ...layer,
      mediaType: MEDIA_TYPES.ociLayer,
      digest: tar.digest,
      size: tar.size,
      // Places and content of the compressed blob.
      urls: undefined,
      data: undefined,
      annotations: kept.length === 0 ? undefined : new Map(kept),
    };
  });
}

function addBootLayer(
  layers: readonly OciDescriptor[] | undefined,
  boot: BootLayerOfImage | undefined,
): readonly OciDescriptor[] | undefined {
  if (boot === undefined) return layers;
  return [...(layers ?? []), { ...boot.layer, mediaType: MEDIA_TYPES.ociLayerGzip, artifactType: '' }];
}

function labelLayers(
  layers: readonly OciDescriptor[] | undefined,
  { digest }: Pick<Descriptor, 'digest'>,
): OciDescriptor[] | undefined {
  return layers?.map((layer) => ({
    ...layer,
    annotations: new Map(layer.annotations).set(SNAPSHOT_LABEL, digest),
  }));
}

/** Nodes take the first entry of their platform, so SOCI indexes come after the images. */
function placeIndex(
  descriptors: OciDescriptor[],
  { platform, index }: PlatformIndex,
  manifest: string,
): void {
  const descriptor: OciDescriptor = {
    mediaType: MEDIA_TYPES.ociManifest,
    digest: index.digest,
    size: index.size,
    annotations: new Map([[MANIFEST_DIGEST, manifest]]),
    platform,
    artifactType: MEDIA_TYPES.sociIndexV2,
  };
  const earlier = descriptors.findIndex(
    (entry) =>
      entry.artifactType === MEDIA_TYPES.sociIndexV2 &&
      entry.platform !== undefined &&
      matchesPlatform(platform, entry.platform),
  );
  if (earlier === -1) descriptors.push(descriptor);
  else descriptors[earlier] = descriptor;
}

function document(bytes: Buffer, mediaType: ManifestType): ManifestDocument {
  return { bytes, digest: digestOf(bytes), mediaType };
}
