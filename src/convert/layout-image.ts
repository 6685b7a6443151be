import { normalizePlatform, type Platform } from '../core/platform.ts';
import { type Digest, digestOf } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import { wrapManifest } from '../soci/convert-image.ts';
import {
  decodeConfigPlatform,
  decodeOciIndex,
  decodeOciManifest,
  encodeOciIndex,
  type OciDescriptor,
  type OciIndex,
} from '../soci/oci-manifest.ts';
import { blobName, type OciLayout, readDocument, readIndexJson } from './oci-layout.ts';

/** An image manifest and its platform. */
export interface PlatformImage {
  readonly descriptor: OciDescriptor;
  readonly platform: Platform;
}

/** The image of a layout, as `soci convert --standalone` finds it. */
export interface LayoutImage {
  readonly index: OciIndex;
  /** Without manifests of no platform or of an unknown one, such as attestations. */
  readonly images: readonly PlatformImage[];
  /** The image is a single manifest, not a list of one. */
  readonly isSingle: boolean;
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
  if (!isIndexType(first.mediaType)) return fromManifest(layout, first);
  return fromList(layout, decodeOciIndex(await readDocument(layout, first.digest)), true);
}

async function fromList(layout: OciLayout, list: OciIndex, isBlob: boolean): Promise<LayoutImage> {
  const listed = list.manifests ?? [];
  const available = listed.filter(({ digest }) => layout.has(blobName(digest)));
  const [first, ...others] = available;
  if (first === undefined)
    throw new SpandrelError('BLOB_UNKNOWN', 'the layout has none of the manifests that it lists');
  if (others.length === 0 && isManifestType(first.mediaType)) return fromManifest(layout, first);
  const index = { ...list, manifests: available };
  const images = await findImages(layout, available);
  if (isBlob && available.length === listed.length) return { index, images, isSingle: false };
  const mediaType = list.mediaType === '' ? MEDIA_TYPES.ociIndex : list.mediaType;
  const bytes = encodeOciIndex({ ...index, mediaType });
  return { index, images, isSingle: false, madeList: { digest: digestOf(bytes), bytes } };
}

async function fromManifest(layout: OciLayout, target: OciDescriptor): Promise<LayoutImage> {
  if (!isManifestType(target.mediaType))
    throw new SpandrelError('IMAGE_UNSUPPORTED', `${target.digest} is not an image: ${target.mediaType}`);
  const images = await findImages(layout, [target]);
  const [image] = images;
  if (image === undefined)
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image does not name its platform');
  return { index: wrapManifest({ ...target, platform: image.platform }), images, isSingle: true };
}

/**
 * Platforms come from the descriptors, else from the image configs (containerd `core/images/image.go`,
 * Platforms).
 */
async function findImages(
  layout: OciLayout,
  descriptors: readonly OciDescriptor[],
): Promise<PlatformImage[]> {
  const images: PlatformImage[] = [];
  for (const descriptor of descriptors) {
    if (!isManifestType(descriptor.mediaType) || descriptor.artifactType === MEDIA_TYPES.sociIndexV2)
      continue;
    const platform = descriptor.platform ?? (await configPlatform(layout, descriptor));
    const isKnown = platform?.os !== 'unknown' && platform?.architecture !== 'unknown';
    if (platform !== undefined && isKnown) images.push({ descriptor, platform });
  }
  return images;
}

async function configPlatform(layout: OciLayout, { digest }: OciDescriptor): Promise<Platform | undefined> {
  const { config } = decodeOciManifest(await readDocument(layout, digest));
  const isImage = config.mediaType === MEDIA_TYPES.ociConfig || config.mediaType === MEDIA_TYPES.dockerConfig;
  if (!isImage) return undefined;
  return normalizePlatform(decodeConfigPlatform(await readDocument(layout, config.digest)));
}
