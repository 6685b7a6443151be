import type { V2Form } from '../config/index-rule.ts';
import type { Descriptor, Platform } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType } from '../core/media-types.ts';
import { convertImage, convertManifest, type Document, wrapManifest } from '../soci/convert-image.ts';
import { decodeOciIndex, type OciIndex } from '../soci/oci-document.ts';
import type { StoredManifest } from './manifest.ts';

/** An image manifest and what it is for. */
export interface PlatformManifest {
  readonly platform: Platform;
  readonly manifest: StoredManifest;
}

/** What a tag answers, and what that leads to. */
export interface ConvertedForm {
  readonly top: Document;
  readonly others: readonly Document[];
}

/**
 * An image with its SOCI v2 indexes. The rewritten manifests are the same in `lean` and `full`: `lean` leaves everything else as it is
 * and lists no SOCI index, which spares nodes to fetch its zTOCs twice; `full` is, byte for byte, what `soci convert` makes.
 * @param readChild a manifest that the image's index lists
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export async function convertToForm(
  form: V2Form,
  original: StoredManifest,
  indexes: readonly { readonly image: PlatformManifest; readonly index: Descriptor }[],
  readChild: (digest: Digest) => Promise<StoredManifest>,
): Promise<ConvertedForm> {
  const labelsLayers = form === 'mirror';
  const isIndex = isIndexType(original.mediaType);
  const [single] = indexes;
  if (form === 'lean' && !isIndex && single !== undefined) {
    return { top: convertManifest(original.bytes, single.index, { labelsLayers }).document, others: [] };
  }
  const list = isIndex ? decodeOciIndex(original.bytes) : wrap(original, indexes);
  const known = new Map<string, Buffer>(
    indexes.map(({ image }) => [image.manifest.digest, image.manifest.bytes]),
  );
  if (form !== 'lean') await readOthers(list, known, readChild);
  const { manifests, top } = convertImage(
    list,
    (digest) => known.get(digest),
    indexes.map(({ image, index }) => ({
      platform: image.platform,
      manifestDigest: image.manifest.digest,
      index,
    })),
    { listsIndexes: form !== 'lean', labelsLayers },
  );
  return { top, others: manifests };
}

function wrap(
  { mediaType, digest, bytes }: StoredManifest,
  indexes: readonly { readonly image: PlatformManifest }[],
): OciIndex {
  const platform = indexes[0]?.image.platform;
  return wrapManifest({ mediaType, digest, size: bytes.byteLength, platform, artifactType: '' });
}

/** `soci` rewrites all manifests, attestations too. One that the upstream has lost stays as it is. */
async function readOthers(
  list: OciIndex,
  known: Map<string, Buffer>,
  readChild: (digest: Digest) => Promise<StoredManifest>,
): Promise<void> {
  for (const { digest, mediaType } of list.manifests ?? []) {
    if (known.has(digest) || !isManifestType(mediaType)) continue;
    try {
      known.set(digest, (await readChild(digest as Digest)).bytes);
    } catch (error) {
      if (!isSpandrelError(error, 'MANIFEST_UNKNOWN')) throw error;
    }
  }
}
