import type { V2Form } from '../../config/index-rule.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { isManifestType } from '../../core/media-types.ts';
import {
  type BootLayerOfImage,
  convertImage,
  convertManifest,
  type TarsOfImage,
  wrapManifest,
} from '../../soci/convert-image.ts';
import { decodeOciIndex, type OciIndex } from '../../soci/oci-manifest.ts';
import type { IndexContent, PlatformManifest } from '../manifests/image-manifests.ts';
import { type ImageIndex, parseManifest } from '../documents/parse-manifest.ts';

/** Reads the manifests that an image index lists. */
interface ListedManifests {
  walk(index: ImageIndex): Promise<IndexContent>;
  read(listed: Pick<Descriptor, 'digest'>): Promise<ManifestDocument | undefined>;
}

/** The response for a tag, and the manifests that it refers to. */
export interface ConvertedForm {
  readonly top: ManifestDocument;
  readonly others: readonly ManifestDocument[];
  /** False if the registry lacks some manifest, which then stays unconverted; it may appear later. */
  readonly isComplete: boolean;
}

/** An image manifest with its SOCI index, the tars that take the places of its layers, and a boot layer. */
export interface IndexedImage {
  readonly image: PlatformManifest;
  readonly index: Descriptor;
  readonly tars?: TarsOfImage;
  readonly boot?: BootLayerOfImage | undefined;
}

/**
 * Converts an image to include its SOCI v2 indexes. The rewritten manifests are the same in `lean` and
 * `full`. `lean` leaves everything else unchanged and lists no SOCI index, so nodes do not fetch the zTOCs
 * twice; `inflated` is as `lean`, with tars as layers. `full` is byte for byte the result of `soci convert`.
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export async function convertToForm(
  form: V2Form,
  original: ManifestDocument,
  indexes: readonly IndexedImage[],
  registry: ListedManifests,
): Promise<ConvertedForm> {
  const labelsLayers = form === 'mirror';
  const isLean = form === 'lean' || form === 'inflated';
  const parsed = parseManifest(original);
  const [single] = indexes;
  if (isLean && parsed.kind === 'image' && single !== undefined) {
    return {
      top: convertManifest(original.bytes, single, { labelsLayers }).document,
      others: [],
      isComplete: true,
    };
  }
  let isComplete = true;
  const list = parsed.kind === 'index' ? decodeOciIndex(original.bytes) : wrap(original, indexes);
  const known = new Map<string, Buffer>(
    indexes.map(({ image }) => [image.manifest.digest, image.manifest.bytes]),
  );
  if (parsed.kind === 'index') {
    const content = await registry.walk(parsed);
    for (const { digest, bytes } of content.indexes) known.set(digest, bytes);
    const hasOthers = isLean || (await readOthers(content.manifests, known, registry));
    isComplete = hasOthers && content.absent.length === 0;
  }
  const { manifests, top } = convertImage(
    list,
    (digest) => known.get(digest),
    indexes.map(({ image, index, tars, boot }) => ({
      platform: image.platform,
      manifestDigest: image.manifest.digest,
      index,
      ...(tars === undefined ? {} : { tars }),
      boot,
    })),
    { listsIndexes: !isLean, labelsLayers },
  );
  return { top, others: manifests, isComplete };
}

function wrap(
  { mediaType, digest, bytes }: ManifestDocument,
  indexes: readonly { readonly image: PlatformManifest }[],
): OciIndex {
  const platform = indexes[0]?.image.platform;
  return wrapManifest({ mediaType, digest, size: bytes.byteLength, platform, artifactType: '' });
}

/**
 * Reads all other manifests: `soci` rewrites attestations too. A manifest that the upstream lacks stays as it
 * is.
 * @returns false if one is missing
 */
async function readOthers(
  manifests: readonly Descriptor[],
  known: Map<string, Buffer>,
  registry: ListedManifests,
): Promise<boolean> {
  let isComplete = true;
  for (const listed of manifests) {
    if (known.has(listed.digest) || !isManifestType(listed.mediaType)) continue;
    const found = await registry.read(listed);
    if (found === undefined) isComplete = false;
    else known.set(listed.digest, found.bytes);
  }
  return isComplete;
}
