import type { Digest } from './digest.ts';
import type { ManifestType } from './media-types.ts';

/** The bytes of a manifest, image index or SOCI index, with their type and digest. */
export interface ManifestDocument {
  readonly bytes: Buffer;
  /** Derived from the bytes. */
  readonly mediaType: ManifestType;
  /** Of the bytes. */
  readonly digest: Digest;
}
