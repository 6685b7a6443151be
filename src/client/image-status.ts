/** What the proxy knows of an image: `GET /v2/<name>/_soci/images/<reference>`. */
export interface ImageStatus {
  readonly digest: string;
  readonly platforms: readonly PlatformStatus[];
  /** Manifests that the index lists and the registry lacks. */
  readonly absent?: readonly { readonly platform: string | null; readonly manifest: string }[];
}

export interface PlatformStatus {
  readonly platform: string | null;
  readonly manifest: string;
  readonly layers: readonly LayerStatus[];
  /** The layer that tags add, with copies of files that starts read. */
  readonly bootLayer?: { readonly digest: string; readonly size: number; readonly files: number };
  /** Digests of SOCI indexes. */
  readonly soci: { readonly v1?: string; readonly v2?: string };
}

/** What the proxy knows of a layer: `GET /v2/<name>/_soci/layers/<digest>`. */
export interface LayerStatus {
  readonly digest: string;
  readonly mediaType: string | null;
  /** Compressed size in bytes. */
  readonly size: number | null;
  /** Digest of the decompressed tar. */
  readonly diffId: string | null;
  /** `readable`: its bytes can be read, but it has no zTOC. */
  readonly state: 'absent' | 'building' | 'indexed' | 'readable' | 'failed';
  /** A code of the error table, and its meaning here. */
  readonly reason?: string;
  readonly message?: string;
  readonly uncompressedSize?: number;
  readonly ztoc?: { readonly digest: string; readonly size: number };
  readonly spans?: number;
  readonly files?: number;
}
