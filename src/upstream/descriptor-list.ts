import type { Descriptor, Platform } from '../core/descriptor.ts';
import { isDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseJsonObject } from './json-answer.ts';

/** The `manifests` of an image index that an upstream sent. @throws SpandrelError UPSTREAM_PROTOCOL */
export function parseDescriptorList(upstream: string, bytes: Uint8Array): Descriptor[] {
  // Docker's registry and some Go programs write an empty list as null.
  const list = parseJsonObject(upstream, bytes)['manifests'] ?? [];
  if (!Array.isArray(list) || !list.every(isDescriptor)) {
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: the answer is no list of descriptors`,
    );
  }
  return list.map(onlyKnownFields);
}

function isDescriptor(value: unknown): value is Descriptor {
  if (!isObject(value)) return false;
  const { mediaType, digest, size, artifactType, annotations, platform, data, urls } = value;
  return (
    typeof mediaType === 'string' &&
    typeof digest === 'string' &&
    isDigest(digest) &&
    Number.isSafeInteger(size) &&
    Number(size) >= 0 &&
    isTextOrAbsent(artifactType) &&
    isTextOrAbsent(data) &&
    (annotations === undefined ||
      (isObject(annotations) && Object.values(annotations).every((text) => typeof text === 'string'))) &&
    (urls === undefined || (Array.isArray(urls) && urls.every((url) => typeof url === 'string'))) &&
    (platform === undefined || isPlatform(platform))
  );
}

function isPlatform(value: unknown): value is Platform {
  return (
    isObject(value) &&
    typeof value['os'] === 'string' &&
    typeof value['architecture'] === 'string' &&
    isTextOrAbsent(value['variant'])
  );
}

function onlyKnownFields(given: Descriptor): Descriptor {
  const { mediaType, digest, size, urls, annotations, data, platform, artifactType } = given;
  return {
    mediaType,
    digest,
    size,
    ...(urls === undefined ? {} : { urls }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(data === undefined ? {} : { data }),
    ...(platform === undefined ? {} : { platform }),
    ...(artifactType === undefined ? {} : { artifactType }),
  };
}

function isTextOrAbsent(value: unknown): boolean {
  return value === undefined || typeof value === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
