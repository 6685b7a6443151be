import type { Descriptor } from '../core/descriptor.ts';
import { matchesPlatform, type Platform } from '../core/platform.ts';
import { type Digest, digestOf } from '../core/digest.ts';
import { isIndexType, isManifestType, type ManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import {
  decodeOciIndex,
  decodeOciManifest,
  encodeOciIndex,
  encodeOciManifest,
  type OciDescriptor,
  type OciIndex,
} from './oci-manifest.ts';

/** Annotation of an image manifest that names its SOCI v2 index. */
export const INDEX_DIGEST_ANNOTATION = 'com.amazon.soci.index-digest';
/** Annotation of a SOCI index in an image index that names the image manifest it belongs to. */
const MANIFEST_DIGEST = 'com.amazon.soci.image-manifest-digest';

/** Annotation of a layer that becomes the label of its snapshot (soci-snapshotter `fs/fs.go`). */
export const SNAPSHOT_LABEL = 'containerd.io/snapshot/remote/soci.index.digest';

/** A SOCI v2 index and the image manifest that it was made for. */
export interface PlatformIndex {
  readonly platform: Platform;
  /** Digest of the image manifest before conversion. */
  readonly manifestDigest: string;
  readonly index: Pick<Descriptor, 'digest' | 'size'>;
}

/** A manifest or index with its digest. */
export interface Document {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: ManifestType;
}

export interface ConvertedImage {
  /** The image manifests, rewritten. */
  readonly manifests: readonly Document[];
  /** The image index that lists them and behind them the SOCI indexes. */
  readonly top: Document;
}

/** The image index that a single manifest is wrapped into. Its descriptor must have the platform. */
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
  /** List the SOCI indexes behind the image manifests, as `soci` does; nodes find them without. */
  readonly listsIndexes: boolean;
  /**
   * Name the SOCI index in each layer's descriptor too: containerd makes a label of it that the snapshotter trusts without asking a
   * registry (containerd `core/unpack/unpacker.go`).
   */
  readonly labelsLayers: boolean;
}

export const SOCI_FORM: ConversionForm = { listsIndexes: true, labelsLayers: false };

/**
 * An image with SOCI v2 indexes as `soci convert` rewrites it (soci-snapshotter `soci/soci_convert.go`): all manifests become OCI
 * ones, those that have a SOCI index name it in an annotation, and their descriptors take over their annotations. SOCI indexes of
 * an earlier conversion are replaced by those for the same platform and otherwise kept, where `soci` fails. Indexes inside of the
 * index are rewritten like it.
 * @param readManifest bytes of the manifests and indexes that `image` leads to, no index twice on a way down; `undefined` leaves a descriptor as it is
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export function convertImage(
  image: OciIndex,
  readManifest: (digest: string) => Uint8Array | undefined,
  indexes: readonly PlatformIndex[],
  form: ConversionForm,
): ConvertedImage {
  /** By digest before conversion; each is converted once, however often it is listed. */
  const converted = new Map<string, Converted | undefined>();
  const convert = (descriptor: OciDescriptor): Converted | undefined => {
    const { digest } = descriptor;
    if (!converted.has(digest)) {
      const bytes = isConvertible(descriptor) ? readManifest(digest) : undefined;
      const index = indexes.find(({ manifestDigest }) => manifestDigest === digest)?.index;
      if (bytes === undefined) converted.set(digest, undefined);
      else
        converted.set(
          digest,
          isIndexType(descriptor.mediaType) ? convertInner(bytes) : convertManifest(bytes, index, form),
        );
    }
    return converted.get(digest);
  };
  const convertList = (listed: readonly OciDescriptor[]): OciDescriptor[] =>
    listed.map((descriptor) => {
      const found = convert(descriptor);
      return found === undefined ? descriptor : describe(descriptor, found);
    });
  /** An index inside stays as it is if all that it lists does. */
  const convertInner = (bytes: Uint8Array): Converted | undefined => {
    const inner = decodeOciIndex(bytes);
    const listed = inner.manifests ?? [];
    const descriptors = convertList(listed);
    if (descriptors.every((descriptor, place) => descriptor === listed[place])) return undefined;
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

/** A manifest or an index inside, rewritten, and what its descriptor takes over from it. */
interface Converted {
  readonly document: Document;
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

/** One image manifest, rewritten to name its SOCI index if it has one. @throws SpandrelError IMAGE_UNSUPPORTED */
export function convertManifest(
  bytes: Uint8Array,
  index: Pick<Descriptor, 'digest'> | undefined,
  { labelsLayers }: Pick<ConversionForm, 'labelsLayers'>,
): Converted {
  const manifest = decodeOciManifest(bytes);
  const annotations =
    index === undefined
      ? manifest.annotations
      : new Map(manifest.annotations).set(INDEX_DIGEST_ANNOTATION, index.digest);
  const converted = {
    ...manifest,
    // Registries dislike a mixture of Docker's and OCI's types.
    mediaType: MEDIA_TYPES.ociManifest,
    config: { ...manifest.config, mediaType: MEDIA_TYPES.ociConfig },
    layers: index !== undefined && labelsLayers ? labelLayers(manifest.layers, index) : manifest.layers,
    annotations,
  };
  return { document: document(encodeOciManifest(converted), MEDIA_TYPES.ociManifest), annotations };
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

/** Nodes take the first entry of their platform, so SOCI indexes come behind the images. */
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

function document(bytes: Buffer, mediaType: ManifestType): Document {
  return { bytes, digest: digestOf(bytes), mediaType };
}
