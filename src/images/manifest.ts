import { type Descriptor, isDescriptor } from '../core/descriptor.ts';
import { SpandrelError } from '../core/errors.ts';
import { isJsonObject } from '../core/json-object.ts';
import { isIndexType } from '../core/media-types.ts';

export interface ImageManifest {
  readonly kind: 'image';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, unknown>>;
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly manifests: readonly Descriptor[];
}

/** A manifest or index as its publisher wrote it. */
export interface StoredManifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly digest: Descriptor['digest'];
}

/**
 * The parts of a manifest that the proxy acts on. The bytes stay the truth: they are served as they came.
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export function parseManifest(manifest: StoredManifest): ImageManifest | ImageIndex {
  const json = parseJson(manifest);
  const isIndex = isIndexType(manifest.mediaType);
  if (isIndex && Array.isArray(json['manifests'])) {
    return { kind: 'index', manifests: json['manifests'].map((entry) => parseDescriptor(entry, manifest)) };
  }
  if (!isIndex && Array.isArray(json['layers'])) {
    return {
      kind: 'image',
      config: parseDescriptor(json['config'], manifest),
      layers: json['layers'].map((entry) => parseDescriptor(entry, manifest)),
      ...(isJsonObject(json['annotations']) ? { annotations: json['annotations'] } : {}),
    };
  }
  throw unsupported(manifest, 'has neither layers nor manifests');
}

function parseJson(manifest: StoredManifest): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(manifest.bytes.toString());
    if (isJsonObject(json)) return json;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw unsupported(manifest, 'is no JSON object');
}

/** As Go's tools read it: `null` is like nothing, an absent text like an empty one, and a value of another type an error. */
function parseDescriptor(value: unknown, manifest: StoredManifest): Descriptor {
  const { annotations, platform, ...rest } = withoutNulls(value);
  const descriptor = {
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
  throw unsupported(
    manifest,
    'has a descriptor without mediaType, digest or size, or with a field of a wrong type',
  );
}

function withoutNulls(value: unknown): Record<string, unknown> {
  return isJsonObject(value)
    ? Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null))
    : {};
}

function unsupported(manifest: StoredManifest, what: string): SpandrelError {
  return new SpandrelError(
    'IMAGE_UNSUPPORTED',
    `manifest ${manifest.digest} (${manifest.mediaType}) ${what}`,
  );
}
