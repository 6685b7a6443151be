import type { BlobStore } from '../../blobs/blob-store.ts';
import type { BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { Digest } from '../../core/digest.ts';
import type { Target } from '../../upstream/target.ts';
import type { BlobProofs } from './blob-proofs.ts';

export interface OpenAuthorizedBlobDeps {
  readonly proofs: BlobProofs;
  readonly blobs: BlobStore;
}

/**
 * Opens a blob if the repository has it. If the upstream serves the blob, that proves it; a cached blob, or
 * one that a tier serves, needs a request.
 * @param open opens the blob; `askFirst` if the store does not know it
 * @throws SpandrelError as {@link BlobProofs.authorize}; errors of `open`
 */
export async function openAuthorizedBlob<T extends BlobReader>(
  { proofs, blobs }: OpenAuthorizedBlobDeps,
  target: Target,
  digest: Digest,
  signal: AbortSignal | undefined,
  open: (askFirst: boolean) => Promise<T>,
): Promise<T> {
  const isKnown = blobs.stat(digest, target.client.name) !== undefined;
  if (isKnown) await proofs.authorize(target, digest, signal);
  await using opened = new AsyncDisposableStack();
  const blob = opened.use(await open(!isKnown));
  // A replica sends what this upstream sent: it has checked that for its own requests.
  const isFromUpstream = blob.source !== 'disk' && blob.source !== 's3';
  if (!isKnown && !isFromUpstream) await proofs.authorize(target, digest, signal);
  else if (!isKnown) await proofs.authorizeOwn(target, digest, signal);
  opened.move();
  return blob;
}
