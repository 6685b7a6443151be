import type { Descriptor } from '../../core/descriptor.ts';
import { matchesPlatform, type Platform } from '../../core/platform.ts';
import { isManifestType } from '../../core/media-types.ts';

const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

/** False for SOCI indexes and attestations in an image index; the platform of an attestation is `unknown`. */
export function isImageManifest({ artifactType, mediaType, platform, annotations }: Descriptor): boolean {
  return (
    isManifestType(mediaType) &&
    artifactType === undefined &&
    platform?.os !== 'unknown' &&
    annotations?.['vnd.docker.reference.type'] === undefined
  );
}

/**
 * The images that may match the wanted platform, best first: exact matches; then, if no variant is wanted,
 * those with any variant; then those whose platform only their config tells. If no platform is wanted: all,
 * linux/amd64 first.
 */
export function orderByPlatform(images: readonly Descriptor[], wanted: Platform | undefined): Descriptor[] {
  const isExact = ({ platform }: Descriptor): boolean =>
    platform !== undefined && matchesPlatform(wanted ?? DEFAULT_PLATFORM, platform);
  const isSimilar = ({ platform }: Descriptor): boolean =>
    wanted === undefined ||
    platform === undefined ||
    (wanted.variant === undefined &&
      platform.os === wanted.os &&
      platform.architecture === wanted.architecture);
  const others = images.filter((image) => !isExact(image) && isSimilar(image));
  if (wanted === undefined) return [...images.filter(isExact), ...others];
  return [
    ...images.filter(isExact),
    ...others.filter(({ platform }) => platform !== undefined),
    ...others.filter(({ platform }) => platform === undefined),
  ];
}
