import { type Descriptor, isDescriptor } from '../../core/descriptor.ts';
import { SpandrelError } from '../../core/errors.ts';
import { mapInTurns } from '../../core/work/in-own-turn.ts';
import { parseObjectWithList } from '../auth/parse-json-object.ts';

/** Checked at once. */
const SHORT_LIST = 200;

/** The `manifests` of an image index that an upstream sent; a large one in slices. @throws SpandrelError UPSTREAM_PROTOCOL */
export async function parseDescriptorList(upstream: string, bytes: Uint8Array): Promise<Descriptor[]> {
  const index = await parseObjectWithList(upstream, bytes, 'manifests');
  // Docker's registry and some Go programs write an empty list as null. An error that comes with 200 has none at all.
  const list = 'manifests' in index ? (index['manifests'] ?? []) : undefined;
  const check = (entry: unknown): Descriptor => {
    if (isDescriptor(entry)) return onlyKnownFields(entry);
    throw noList(upstream);
  };
  if (!Array.isArray(list)) throw noList(upstream);
  return list.length <= SHORT_LIST ? list.map(check) : mapInTurns(list, check);
}

function noList(upstream: string): SpandrelError {
  return new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: the answer is no list of descriptors`);
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
