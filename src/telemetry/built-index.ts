/** A layer index that was built. */
export interface BuiltIndex {
  readonly layer: string;
  readonly outcome: 'indexed' | 'readable';
  /** Code of the reason why the layer has no zTOC. */
  readonly reason: string | undefined;
  readonly spans: number;
  readonly files: number;
  readonly uncompressedBytes: number;
  /** Decompressor of the layer; `undefined` for a plain tar. */
  readonly engine: string | undefined;
  readonly seconds: number;
  /** True if another replica built the same index and counted it. */
  readonly isConfirmed: boolean;
}
