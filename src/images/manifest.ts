import type { Descriptor } from '../core/descriptor.ts';
import { isDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';

export interface ImageManifest {
  readonly kind: 'image';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
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
  const isIndex =
    manifest.mediaType === MEDIA_TYPES.ociIndex || manifest.mediaType === MEDIA_TYPES.dockerList;
  if (isIndex && Array.isArray(json['manifests'])) {
    return { kind: 'index', manifests: json['manifests'].map((entry) => parseDescriptor(entry, manifest)) };
  }
  if (!isIndex && Array.isArray(json['layers'])) {
    return {
      kind: 'image',
      config: parseDescriptor(json['config'], manifest),
      layers: json['layers'].map((entry) => parseDescriptor(entry, manifest)),
    };
  }
  throw unsupported(manifest, 'has neither layers nor manifests');
}

function parseJson(manifest: StoredManifest): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(manifest.bytes.toString());
    if (typeof json === 'object' && json !== null) return json as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw unsupported(manifest, 'is no JSON object');
}

function parseDescriptor(value: unknown, manifest: StoredManifest): Descriptor {
  if (typeof value === 'object' && value !== null) {
    const { mediaType, digest, size } = value as Record<string, unknown>;
    const isSize = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
    if (typeof mediaType === 'string' && typeof digest === 'string' && isDigest(digest) && isSize) {
      return value as Descriptor;
    }
  }
  throw unsupported(manifest, 'has a descriptor without mediaType, digest or size');
}

function unsupported(manifest: StoredManifest, what: string): SpandrelError {
  return new SpandrelError(
    'IMAGE_UNSUPPORTED',
    `manifest ${manifest.digest} (${manifest.mediaType}) ${what}`,
  );
}
