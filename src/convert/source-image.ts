import { SpandrelError } from '../core/errors.ts';
import { isManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import { normalizePlatform, type Platform } from '../core/platform.ts';
import { wrapManifest } from '../soci/convert-image.ts';
import {
  decodeConfigPlatform,
  decodeOciManifest,
  type OciDescriptor,
  type OciIndex,
} from '../soci/oci-manifest.ts';

/** An image manifest and its platform. */
export interface PlatformImage {
  readonly descriptor: OciDescriptor;
  readonly platform: Platform;
}

/** An image to convert, as `soci` finds it. */
export interface SourceImage {
  readonly index: OciIndex;
  /** Without manifests of no platform or of an unknown one, such as attestations. */
  readonly images: readonly PlatformImage[];
  /** The image is a single manifest, not a list of one. */
  readonly isSingle: boolean;
}

/** Reads manifests and configs. */
export type ReadDocument = (digest: string, kind: 'manifest' | 'config') => Promise<Buffer>;

/** A single image manifest. @throws SpandrelError IMAGE_UNSUPPORTED; errors of `read` */
export async function imageOfManifest(read: ReadDocument, target: OciDescriptor): Promise<SourceImage> {
  if (!isManifestType(target.mediaType))
    throw new SpandrelError('IMAGE_UNSUPPORTED', `${target.digest} is not an image: ${target.mediaType}`);
  const images = await findImages(read, [target]);
  const [image] = images;
  if (image === undefined)
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image does not name its platform');
  return { index: wrapManifest({ ...target, platform: image.platform }), images, isSingle: true };
}

/**
 * Platforms come from the descriptors, else from the image configs (containerd `core/images/image.go`,
 * Platforms).
 */
export async function findImages(
  read: ReadDocument,
  descriptors: readonly OciDescriptor[],
): Promise<PlatformImage[]> {
  const images: PlatformImage[] = [];
  for (const descriptor of descriptors) {
    if (!isManifestType(descriptor.mediaType) || descriptor.artifactType === MEDIA_TYPES.sociIndexV2)
      continue;
    const platform = descriptor.platform ?? (await configPlatform(read, descriptor));
    const isKnown = platform?.os !== 'unknown' && platform?.architecture !== 'unknown';
    if (platform !== undefined && isKnown) images.push({ descriptor, platform });
  }
  return images;
}

async function configPlatform(read: ReadDocument, { digest }: OciDescriptor): Promise<Platform | undefined> {
  const { config } = decodeOciManifest(await read(digest, 'manifest'));
  const isImage = config.mediaType === MEDIA_TYPES.ociConfig || config.mediaType === MEDIA_TYPES.dockerConfig;
  if (!isImage) return undefined;
  return normalizePlatform(decodeConfigPlatform(await read(config.digest, 'config')));
}
