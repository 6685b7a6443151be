/**
 * Why nothing was pushed: `already_indexed`: the image lists SOCI indexes; `already_published`: the registry
 * has all that would be pushed; `nothing_to_index`: the image has no layer that SOCI indexes.
 */
export const UNCHANGED_REASONS = ['already_indexed', 'already_published', 'nothing_to_index'] as const;
export type UnchangedReason = (typeof UNCHANGED_REASONS)[number];

/** What the publication of an image has pushed. */
export interface PublishedImage {
  /** That points to the converted image. */
  readonly tag?: string;
  /** Of the converted image; none for a v1 index. */
  readonly digest?: string;
  /** Present if nothing was pushed. */
  readonly unchanged?: UnchangedReason;
  readonly blobs: number;
  readonly manifests: number;
  readonly bytes: number;
}
