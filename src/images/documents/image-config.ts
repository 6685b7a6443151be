import type { Platform } from '../../core/platform.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { parseJson } from '../../core/json/parse-json.ts';

/** The parts of an image config that the proxy uses. Absent fields are absent in the config. */
export interface ImageConfig {
  /** Digests of the decompressed layers, in the order of the manifest's layers. */
  readonly diffIds?: readonly Digest[];
  readonly platform?: Platform;
  /** Why the config cannot be read; IMAGE_UNSUPPORTED if the manifest names none that could be. */
  readonly fault?: ErrorCode;
}

/** False if the registry did not deliver the config, so that a later read may find more. */
export function isFinalConfig({ fault }: ImageConfig): boolean {
  return fault === undefined || fault === 'IMAGE_UNSUPPORTED';
}

/** Parses an image config (OCI image spec, "Image Configuration"). Anything else gives an empty config. */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const json = parseObject(bytes);
  const { os, architecture, variant, rootfs } = json;
  const listed = isObject(rootfs) ? rootfs['diff_ids'] : undefined;
  const diffIds = Array.isArray(listed)
    ? listed.filter((id): id is Digest => typeof id === 'string' && isDigest(id))
    : [];
  const isPlatform =
    typeof os === 'string' && typeof architecture === 'string' && os !== '' && architecture !== '';
  return {
    ...(Array.isArray(listed) && diffIds.length === listed.length ? { diffIds } : {}),
    ...(isPlatform
      ? {
          platform: {
            os,
            architecture,
            ...(typeof variant === 'string' && variant !== '' ? { variant } : {}),
          },
        }
      : {}),
  };
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value = parseJson(bytes);
    return isObject(value) ? value : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
