import { isSpandrelError } from '../../core/errors.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { backoffMs, type Pause } from '../transport/backoff-ms.ts';
import { BlobUpload } from './blob-upload.ts';
import { type ContentName, hasContent } from './has-content.ts';
import { isPassing } from './read-push-failure.ts';

export interface BlobPush extends ContentName {
  readonly bytes: Uint8Array;
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
  if (await hasContent(api, 'blob', blob)) return false;
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
      if (await hasContent(api, 'blob', blob)) return true;
      // Registries may keep a broken chunk in part, and say nothing of it: the next upload starts anew.
      await (isDoubtful ? upload.restart() : upload.resume());
    }
  }
}
