import { type Descriptor, isDescriptor } from '../core/descriptor.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseJsonObject } from './json-answer.ts';

/** The `manifests` of an image index that an upstream sent. @throws SpandrelError UPSTREAM_PROTOCOL */
export function parseDescriptorList(upstream: string, bytes: Uint8Array): Descriptor[] {
  const index = parseJsonObject(upstream, bytes);
  // Docker's registry and some Go programs write an empty list as null. An error that comes with 200 has none at all.
  const list = 'manifests' in index ? (index['manifests'] ?? []) : undefined;
  if (!Array.isArray(list) || !list.every(isDescriptor)) {
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: the answer is no list of descriptors`,
    );
  }
  return list.map(onlyKnownFields);
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
