import type { Descriptor, Platform } from '../core/descriptor.ts';
import { SpandrelError } from '../core/errors.ts';
import { isManifestType } from '../core/media-types.ts';
import { formatPlatform, matchesPlatform } from '../core/platform.ts';

/** The entries of an image index that are images: neither SOCI indexes nor attestations, whose platform is `unknown`. */
export function imageManifests(manifests: readonly Descriptor[]): Descriptor[] {
  return manifests.filter(
    ({ artifactType, mediaType, platform, annotations }) =>
      isManifestType(mediaType) &&
      artifactType === undefined &&
      platform?.os !== 'unknown' &&
      annotations?.['vnd.docker.reference.type'] === undefined,
  );
}

/**
 * The image manifest for `wanted`; without a wish linux/amd64, else the first.
 * @throws SpandrelError PLATFORM_UNKNOWN
 */
export function selectManifest(manifests: readonly Descriptor[], wanted: Platform | undefined): Descriptor {
  const images = imageManifests(manifests);
  const found =
    wanted === undefined
      ? (images.find(({ platform }) => platform?.os === 'linux' && platform.architecture === 'amd64') ??
        images[0])
      : findPlatform(images, wanted);
  if (found === undefined) {
    const there = images.map(({ platform }) =>
      platform === undefined ? 'unnamed' : formatPlatform(platform),
    );
    throw new SpandrelError('PLATFORM_UNKNOWN', `the image has ${there.join(', ') || 'no platform'}`, {
      detail: { platforms: there },
    });
  }
  return found;
}

/** The exact platform; where no variant is asked for and the usual one is not there, any. */
function findPlatform(images: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  const exact = images.find(({ platform }) => platform !== undefined && matchesPlatform(wanted, platform));
  if (exact !== undefined || wanted.variant !== undefined) return exact;
  return images.find(
    ({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture,
  );
}
