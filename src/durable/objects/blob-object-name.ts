import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';

/** `blobs/sha256/<hex>`, as in an OCI layout. */
export function blobObjectName(prefix: string, digest: Digest): string {
  return `${prefix}blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}
