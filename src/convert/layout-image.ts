import { type Digest, digestOf } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import { decodeOciIndex, encodeOciIndex, type OciIndex } from '../soci/oci-manifest.ts';
import { findImages, imageOfManifest, type SourceImage } from './source-image.ts';
import { blobName, type OciLayout, readDocument, readIndexJson } from './oci-layout.ts';

/** The image of a layout, as `soci convert --standalone` finds it. */
export interface LayoutImage extends SourceImage {
  /**
   * An index that had to be made, because the layout lacks some of the manifests or lists them in its
   * `index.json`. `soci` leaves it in its output.
   */
  readonly madeList?: { readonly digest: Digest; readonly bytes: Buffer };
}

/**
 * Finds the image of a layout: its only manifest, or the index that its `index.json` names or is. Leaves out
 * manifests that the layout lacks (soci-snapshotter `cmd/soci/commands/internal/standalone.go`,
 * resolveLayoutRoot).
 * @throws SpandrelError IMAGE_UNSUPPORTED, BLOB_UNKNOWN, BLOB_CORRUPT
 */
export async function findLayoutImage(layout: OciLayout): Promise<LayoutImage> {
  const top = decodeOciIndex(await readIndexJson(layout));
  const [first, ...others] = top.manifests ?? [];
  if (first === undefined) throw new SpandrelError('IMAGE_UNSUPPORTED', 'index.json lists no manifests');
  if (others.length > 0) return fromList(layout, top, false);
  if (!isIndexType(first.mediaType)) return imageOfManifest((digest) => readDocument(layout, digest), first);
  return fromList(layout, decodeOciIndex(await readDocument(layout, first.digest)), true);
}

async function fromList(layout: OciLayout, list: OciIndex, isBlob: boolean): Promise<LayoutImage> {
  const listed = list.manifests ?? [];
  const available = listed.filter(({ digest }) => layout.has(blobName(digest)));
  const [first, ...others] = available;
  if (first === undefined)
    throw new SpandrelError('BLOB_UNKNOWN', 'the layout has none of the manifests that it lists');
  if (others.length === 0 && isManifestType(first.mediaType))
    return imageOfManifest((digest) => readDocument(layout, digest), first);
  const index = { ...list, manifests: available };
  const images = await findImages((digest) => readDocument(layout, digest), available);
  if (isBlob && available.length === listed.length) return { index, images, isSingle: false };
  const mediaType = list.mediaType === '' ? MEDIA_TYPES.ociIndex : list.mediaType;
  const bytes = encodeOciIndex({ ...index, mediaType });
  return { index, images, isSingle: false, madeList: { digest: digestOf(bytes), bytes } };
}
