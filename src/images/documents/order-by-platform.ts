import type { Descriptor } from '../../core/descriptor.ts';
import { matchesPlatform, type Platform } from '../../core/platform.ts';
import { isManifestType } from '../../core/media-types.ts';

const USUAL: Platform = { os: 'linux', architecture: 'amd64' };

/** True for what an index lists as an image: neither a SOCI index nor an attestation, whose platform is `unknown`. */
export function isImageManifest({ artifactType, mediaType, platform, annotations }: Descriptor): boolean {
  return (
    isManifestType(mediaType) &&
    artifactType === undefined &&
    platform?.os !== 'unknown' &&
    annotations?.['vnd.docker.reference.type'] === undefined
  );
}

/**
 * Those that may be what is wanted, the best first: of the exact platform; where no variant is asked for, of any; then those whose
 * platform only their config says. Without a wish all of them, those for linux/amd64 first.
 */
export function orderByPlatform(images: readonly Descriptor[], wanted: Platform | undefined): Descriptor[] {
  const isExact = ({ platform }: Descriptor): boolean =>
    platform !== undefined && matchesPlatform(wanted ?? USUAL, platform);
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
