import type { Digest } from '../../core/digest.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { formatPlatform } from '../../core/platform.ts';
import type { SkipReason } from '../../soci/skip-reason.ts';
import type { UnchangedReason } from '../../telemetry/published-image.ts';
import type { PlatformManifest } from '../manifests/image-manifests.ts';

/** A job in the admin API. */
export interface ImageJobView {
  readonly id: string;
  readonly kind: 'warm' | 'publish';
  readonly image: string;
  /** `running` includes jobs that have not started. */
  readonly state: 'running' | 'done' | 'failed';
  readonly createdAt: string;
  readonly platforms: readonly string[];
  /** By platform, whether nodes read the image lazily; empty until the job is done. */
  readonly images: readonly JobImageView[];
  readonly layers: readonly JobLayerView[];
  /** Present if the job publishes the image. */
  readonly published?: PublishedView;
  /** Why it has failed; while it runs, why it makes another attempt. */
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/** What has been pushed, by all attempts. */
export interface PublishedView {
  readonly v1: boolean;
  /** The tag that the job is to set. */
  readonly wantedTag?: string;
  /** The tag that points to the converted image; present once it does. */
  readonly tag?: string;
  /** Of the converted image; present once the registry has it. A v1 index leaves the image as it is. */
  readonly digest?: Digest;
  /** Tags that list v1 indexes, where the registry lacks the Referrers API. */
  readonly fallbackTags?: readonly string[];
  /** Why nothing was pushed; present once that is certain. */
  readonly unchanged?: UnchangedReason;
  readonly attempts: number;
  readonly blobs: number;
  readonly manifests: number;
  readonly bytes: number;
}

export interface JobImageView {
  readonly platform: string;
  readonly manifest: Digest;
  readonly lazy: boolean;
  /** The SOCI index. */
  readonly index?: Digest;
}

export interface JobLayerView {
  readonly digest: Digest;
  readonly size: number;
  /** Compressed bytes that are stored, from the start of the layer. */
  readonly fetched: number;
  readonly state: 'absent' | 'building' | 'complete' | 'failed' | 'skipped';
  /** Why a `failed` layer is left out of the SOCI index. */
  readonly reason?: ErrorCode;
  /** Why a `skipped` layer is: by its size or format. It is not fetched. */
  readonly skipped?: SkipReason;
}

/** @param index the SOCI index by which nodes read the image lazily */
export function describeImage(
  { platform, manifest }: PlatformManifest,
  index: Digest | undefined,
): JobImageView {
  const described = { platform: formatPlatform(platform), manifest: manifest.digest };
  return index === undefined ? { ...described, lazy: false } : { ...described, lazy: true, index };
}
