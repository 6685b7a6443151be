import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { backoffMs, type Pause } from '../transport/backoff-ms.ts';
import { BlobUpload } from './blob-upload.ts';
import { isPassing, readPushFailure } from './push-failure.ts';

export interface BlobName {
  readonly repository: string;
  readonly digest: Digest;
  readonly signal: AbortSignal | undefined;
}

export interface BlobPush extends BlobName {
  readonly bytes: Uint8Array;
}

/** As {@link RegistryClient.hasBlob}. */
export async function hasBlob(api: RegistryApi, { repository, digest, signal }: BlobName): Promise<boolean> {
  const response = await api.request({
    kind: 'blob',
    method: 'HEAD',
    path: `${repository}/blobs/${digest}`,
    repository,
    access: 'pull,push',
    signal,
  });
  const { status } = response;
  if (status === 429 || (status >= 500 && status !== 501))
    throw await readPushFailure(api.upstream, response);
  await response.body.discard();
  return status === 200;
}

/**
 * As {@link RegistryClient.pushBlob}. Gives up after `retries` failures in a row that bring the upload no
 * further.
 */
export async function pushBlob(
  api: RegistryApi,
  blob: BlobPush,
  { retries, pause }: { readonly retries: number; readonly pause: Pause },
): Promise<boolean> {
  if (await hasBlob(api, blob)) return false;
  const upload = new BlobUpload(api, blob);
  let failures = 0;
  let farthest = 0;
  for (;;) {
    try {
      await upload.run();
      return true;
    } catch (error) {
      blob.signal?.throwIfAborted();
      const isDoubtful = upload.isResumed && isSpandrelError(error, 'PUSH_REFUSED');
      if (!isPassing(error) && !isDoubtful) throw error;
      if (upload.farthest > farthest) failures = 0;
      farthest = upload.farthest;
      if (failures >= retries) throw error;
      await pause(backoffMs(failures++), blob.signal);
      // The registry may have carried out the request whose response was lost.
      if (await hasBlob(api, blob)) return true;
      // Registries may keep a broken chunk in part, and say nothing of it: the next upload starts anew.
      await (isDoubtful ? upload.restart() : upload.resume());
    }
  }
}
