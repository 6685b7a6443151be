import { type Descriptor, isDescriptor } from '../../core/descriptor.ts';
import { SpandrelError } from '../../core/errors.ts';
import { mapInTurns } from '../../core/work/in-own-turn.ts';
import { parseObjectWithList } from '../auth/parse-json-object.ts';

/** Lists up to this length are checked at once. */
const SHORT_LIST = 200;

/**
 * Parses the `manifests` of an image index of an upstream, a long list in slices. @throws SpandrelError
 * UPSTREAM_PROTOCOL
 */
export async function parseDescriptorList(upstream: string, bytes: Uint8Array): Promise<Descriptor[]> {
  const index = await parseObjectWithList(upstream, bytes, 'manifests');
  // Docker's registry and some Go programs write an empty list as null. An error body sent with 200 has no
  // such field.
  const list = 'manifests' in index ? (index['manifests'] ?? []) : undefined;
  const check = (entry: unknown): Descriptor => {
    if (isDescriptor(entry)) return onlyKnownFields(entry);
    throw noList(upstream);
  };
  if (!Array.isArray(list)) throw noList(upstream);
  return list.length <= SHORT_LIST ? list.map(check) : mapInTurns(list, check);
}

function noList(upstream: string): SpandrelError {
  return new SpandrelError(
    'UPSTREAM_PROTOCOL',
    `upstream ${upstream}: the response is not a list of descriptors`,
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
