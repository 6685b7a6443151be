import type { Digest } from '../core/digest.ts';
import type { BootLayerOfImage } from '../soci/convert-image.ts';

/** What became of a boot layer. */
export type MadeBootLayer =
  (BootLayerOfImage & { readonly files: number }) | { readonly skipped: string; readonly message: string };

/** Result for one layer. */
export interface LayerOutcome {
  readonly digest: string;
  /** `skipped`: by its size or format, as `soci` does; `failed`: `soci` cannot convert the image. */
  readonly state: 'indexed' | 'skipped' | 'failed';
  /** Takes its place. */
  readonly tar?: { readonly digest: Digest; readonly size: number };
  readonly ztoc?: { readonly digest: Digest; readonly size: number };
  /**
   * Why the layer has no zTOC: `too_small`, `unsupported_format`, or a code of the error table with its
   * message.
   */
  readonly skipped?: string;
  readonly message?: string;
}

export interface PlatformOutcome {
  readonly platform: string;
  /** Absent if no layer was indexed. */
  readonly sociIndex?: Digest;
  readonly layers: readonly LayerOutcome[];
  /** Absent if none was wanted, or if no layer was indexed. */
  readonly bootLayer?: MadeBootLayer;
  /** Files to prefetch that the image lacks. */
  readonly missingFiles: readonly string[];
}
