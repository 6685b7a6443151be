/** A job of the admin API: `Job` in `/api/openapi.json`. */
export interface Job {
  readonly id: string;
  readonly kind: 'warm' | 'publish';
  /** As in the request. */
  readonly image: string;
  /** `running` includes jobs that have not started. */
  readonly state: 'running' | 'done' | 'failed';
  readonly createdAt: string;
  readonly platforms: readonly string[];
  /** By platform, whether nodes read the image lazily; empty until the job is done. */
  readonly images: readonly JobImage[];
  readonly layers: readonly JobLayer[];
  /** Present if the job publishes the image. */
  readonly published?: Published;
  /** Why it has failed; while it runs, why it makes another attempt. `code` is one of the error table. */
  readonly error?: { readonly code: string; readonly message: string };
}

export interface JobImage {
  readonly platform: string;
  readonly manifest: string;
  readonly lazy: boolean;
  /** Digest of the SOCI index. */
  readonly index?: string;
}

export interface JobLayer {
  readonly digest: string;
  readonly size: number;
  /** Compressed bytes that the proxy has, from the start of the layer. */
  readonly fetched: number;
  readonly state: 'absent' | 'building' | 'complete' | 'failed' | 'skipped';
  /** Why a `failed` layer is left out of the SOCI index: a code of the error table. */
  readonly reason?: string;
  /** Why a `skipped` layer is. */
  readonly skipped?: 'unsupported_format' | 'too_small';
}

/** What has been pushed so far. */
export interface Published {
  readonly v1: boolean;
  /** The tag that the job is to set. */
  readonly wantedTag?: string;
  /** The tag that points to the converted image, once it does. */
  readonly tag?: string;
  /** Of the converted image, once the registry has it. */
  readonly digest?: string;
  /** Tags that list v1 indexes, where the registry has no Referrers API. */
  readonly fallbackTags?: readonly string[];
  /**
   * Why nothing was pushed: the image lists SOCI indexes already, the registry has everything, or no
   * layer can be indexed.
   */
  readonly unchanged?: 'already_indexed' | 'already_published' | 'nothing_to_index';
  readonly attempts: number;
  readonly blobs: number;
  readonly manifests: number;
  readonly bytes: number;
}

export interface JobProgress {
  readonly doneBytes: number;
  /** `undefined` until the job has read the image's manifests. */
  readonly totalBytes: number | undefined;
}

/** Compressed bytes that the proxy has fetched for a job, and all that it fetches. */
export function jobProgress({ state, layers }: Job): JobProgress {
  if (state !== 'done' && layers.length === 0) return { doneBytes: 0, totalBytes: undefined };
  const fetched = layers.filter(({ state }) => state !== 'skipped');
  return {
    doneBytes: fetched.reduce((sum, layer) => sum + layer.fetched, 0),
    totalBytes: fetched.reduce((sum, layer) => sum + layer.size, 0),
  };
}
