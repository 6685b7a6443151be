import type { ManifestDocument } from '../../core/manifest-document.ts';
import { type Descriptor, isDescriptor } from '../../core/descriptor.ts';
import { digestOf, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { isJsonObject, parseJson } from '../../core/json/parse-json.ts';
import { isIndexType } from '../../core/media-types.ts';

/** A readable descriptor of something that cannot be requested. */
export interface FaultyDescriptor {
  readonly mediaType: string;
  /** As in the manifest. */
  readonly digest: string;
  readonly fault: { readonly code: 'DIGEST_INVALID' | 'LAYER_UNSUPPORTED'; readonly message: string };
}

export interface ImageManifest {
  readonly kind: 'image';
  /** Absent if the manifest has none that can be requested. */
  readonly config: Descriptor | undefined;
  /** From the lowest up, in the order of the config's `rootfs.diff_ids`. */
  readonly layers: readonly (Descriptor | FaultyDescriptor)[];
  readonly annotations?: Readonly<Record<string, unknown>>;
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly manifests: readonly (Descriptor | FaultyDescriptor)[];
}

const SOME_DIGEST = digestOf('');
/** No node mounts more: overlayfs takes 500 layers (Linux `fs/overlayfs/params.h`, OVL_MAX_STACK). */
const MAX_LAYERS = 500;
/** An index lists an image and an attestation for each platform. */
const MAX_MANIFESTS = 250;

/** Results by manifest: one request parses the same manifest several times. */
const outcomes = new WeakMap<ManifestDocument, ImageManifest | ImageIndex | SpandrelError>();

/**
 * Parses the parts of a manifest that the proxy uses. Clients always get the original bytes.
 * @throws SpandrelError IMAGE_UNSUPPORTED, also for more than 500 layers or 250 manifests, since each may
 * cost requests and a build
 */
export function parseManifest(manifest: ManifestDocument): ImageManifest | ImageIndex {
  const outcome = outcomes.get(manifest) ?? tryParse(manifest);
  outcomes.set(manifest, outcome);
  if (outcome instanceof SpandrelError) throw outcome;
  return outcome;
}

function tryParse(manifest: ManifestDocument): ImageManifest | ImageIndex | SpandrelError {
  try {
    return parse(manifest);
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return error;
  }
}

function parse(manifest: ManifestDocument): ImageManifest | ImageIndex {
  const json = parseObject(manifest);
  const isIndex = isIndexType(manifest.mediaType);
  if (isIndex && Array.isArray(json['manifests'])) {
    if (json['manifests'].length > MAX_MANIFESTS)
      throw unsupported(manifest, `lists more than ${MAX_MANIFESTS} manifests`);
    return { kind: 'index', manifests: json['manifests'].map((entry) => parseDescriptor(entry, manifest)) };
  }
  // Go omits an empty list.
  const layers = json['layers'] ?? (isJsonObject(json['config']) ? [] : undefined);
  if (!isIndex && Array.isArray(layers)) {
    if (layers.length > MAX_LAYERS) throw unsupported(manifest, `has more than ${MAX_LAYERS} layers`);
    const config = parseDescriptor(json['config'], manifest);
    return {
      kind: 'image',
      config: isSound(config) ? config : undefined,
      layers: layers.map((entry) => parseDescriptor(entry, manifest)),
      ...(isJsonObject(json['annotations']) ? { annotations: json['annotations'] } : {}),
    };
  }
  throw unsupported(manifest, 'has neither layers nor manifests');
}

function parseObject(manifest: ManifestDocument): Record<string, unknown> {
  try {
    const json = parseJson(manifest.bytes);
    if (isJsonObject(json)) return json;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw unsupported(manifest, 'is not a JSON object');
}

/** As {@link parseManifest}; `undefined` if it is neither an image manifest nor an image index. */
export function tryParseManifest(manifest: ManifestDocument): ImageManifest | ImageIndex | undefined {
  try {
    return parseManifest(manifest);
  } catch (error) {
    if (isSpandrelError(error, 'IMAGE_UNSUPPORTED')) return undefined;
    throw error;
  }
}

/** The descriptors that can be requested. */
export function soundDescriptors(descriptors: readonly (Descriptor | FaultyDescriptor)[]): Descriptor[] {
  return descriptors.filter(isSound);
}

export function isSound(descriptor: Descriptor | FaultyDescriptor): descriptor is Descriptor {
  return 'size' in descriptor;
}

/**
 * Parses as Go's tools do: `null` is absent, an absent text is empty, and a value of a wrong type is an
 * error. A digest of an unknown algorithm or an impossible size makes only this descriptor faulty.
 */
function parseDescriptor(value: unknown, manifest: ManifestDocument): Descriptor | FaultyDescriptor {
  const wrongType = (): SpandrelError =>
    unsupported(manifest, 'has a descriptor with a field of a wrong type');
  if (value !== undefined && value !== null && !isJsonObject(value)) throw wrongType();
  const { annotations, platform, ...rest } = withoutNulls(value);
  const descriptor = {
    mediaType: '',
    ...rest,
    ...(annotations === undefined
      ? {}
      : { annotations: isJsonObject(annotations) ? withoutNulls(annotations) : null }),
    ...(platform === undefined
      ? {}
      : {
          platform: isJsonObject(platform) ? { os: '', architecture: '', ...withoutNulls(platform) } : null,
        }),
  };
  if (isDescriptor(descriptor)) return descriptor;
  const { digest = '', size } = rest;
  const readable = { ...descriptor, digest: SOME_DIGEST, size: 0 };
  if (
    !isDescriptor(readable) ||
    typeof digest !== 'string' ||
    !(size === undefined || typeof size === 'number')
  )
    throw wrongType();
  return { mediaType: readable.mediaType, digest, fault: describeFault(digest, size) };
}

function describeFault(digest: string, size: number | undefined): FaultyDescriptor['fault'] {
  return isDigest(digest)
    ? { code: 'LAYER_UNSUPPORTED', message: `the manifest gives it the size ${size ?? 'none'}` }
    : { code: 'DIGEST_INVALID', message: `its digest is not sha256 or sha512: ${digest.slice(0, 160)}` };
}

function withoutNulls(value: unknown): Record<string, unknown> {
  return isJsonObject(value)
    ? Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null))
    : {};
}

function unsupported(manifest: ManifestDocument, what: string): SpandrelError {
  return new SpandrelError(
    'IMAGE_UNSUPPORTED',
    `manifest ${manifest.digest} (${manifest.mediaType}) ${what}`,
  );
}
