import type { Descriptor, Platform } from '../core/descriptor.ts';
import { SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';

const FORM = /^([a-z0-9_-]+)\/([a-z0-9_-]+)(?:\/([a-z0-9._-]+))?$/;

/** `os/arch[/variant]`. @throws SpandrelError QUERY_INVALID */
export function parsePlatform(text: string): Platform {
  const [, os, architecture, variant] = FORM.exec(text) ?? [];
  if (os === undefined || architecture === undefined) {
    throw new SpandrelError(
      'QUERY_INVALID',
      `not a platform like linux/amd64 or linux/arm/v7: ${text.slice(0, 100)}`,
    );
  }
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

export function formatPlatform(platform: Platform): string {
  const base = `${platform.os}/${platform.architecture}`;
  return platform.variant === undefined ? base : `${base}/${platform.variant}`;
}

/** The entries of an image index that are images: neither SOCI indexes nor attestations, whose platform is `unknown`. */
export function imageManifests(manifests: readonly Descriptor[]): Descriptor[] {
  return manifests.filter(
    ({ artifactType, mediaType, platform, annotations }) =>
      (mediaType === MEDIA_TYPES.ociManifest || mediaType === MEDIA_TYPES.dockerManifest) &&
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
      : images.find(({ platform }) => platform !== undefined && satisfies(platform, wanted));
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

function satisfies(platform: Platform, wanted: Platform): boolean {
  return (
    platform.os === wanted.os &&
    platform.architecture === wanted.architecture &&
    (wanted.variant === undefined || platform.variant === wanted.variant)
  );
}
