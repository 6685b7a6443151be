import { type Digest, isDigest } from './digest.ts';
import { isJsonObject } from './json/parse-json.ts';
import type { Platform } from './platform.ts';

/** OCI content descriptor; the order of the fields is the order in which Go prints them. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly data?: string;
  readonly platform?: Platform;
  readonly artifactType?: string;
}

/** True if `value`, parsed from JSON, has the fields of a descriptor with values of the right types. */
export function isDescriptor(value: unknown): value is Descriptor {
  if (!isJsonObject(value)) return false;
  const { mediaType, digest, size, artifactType, annotations, platform, data, urls } = value;
  return (
    typeof mediaType === 'string' &&
    typeof digest === 'string' &&
    isDigest(digest) &&
    Number.isSafeInteger(size) &&
    Number(size) >= 0 &&
    isTextOrAbsent(artifactType) &&
    isTextOrAbsent(data) &&
    (annotations === undefined || (isJsonObject(annotations) && isTexts(Object.values(annotations)))) &&
    (urls === undefined || isTexts(urls)) &&
    (platform === undefined || isPlatform(platform))
  );
}

function isPlatform(value: unknown): value is Platform {
  if (!isJsonObject(value)) return false;
  const { os, architecture, variant, 'os.version': version, 'os.features': features } = value;
  return (
    typeof os === 'string' &&
    typeof architecture === 'string' &&
    isTextOrAbsent(variant) &&
    isTextOrAbsent(version) &&
    (features === undefined || isTexts(features))
  );
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isTextOrAbsent(value: unknown): boolean {
  return value === undefined || typeof value === 'string';
}
