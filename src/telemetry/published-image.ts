/** What the publication of an image has pushed. */
export interface PublishedImage {
  readonly tag: string | undefined;
  /** Of the converted image; none for a v1 index. */
  readonly digest: string | undefined;
  readonly blobs: number;
  readonly manifests: number;
  readonly bytes: number;
}
