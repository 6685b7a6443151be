import { SpandrelError } from '../core/errors.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';
import { isBrokenTransfer } from '../upstream/faults/is-upstream-away.ts';
import { backoffMs, type Pause } from '../upstream/transport/backoff-ms.ts';

export interface ReadBlobOptions {
  /** As the manifest says. */
  readonly sizeBytes: number;
  /** Failures in a row that bring no byte. */
  readonly retries: number;
  readonly pause: Pause;
  readonly signal: AbortSignal;
}

/**
 * Streams a blob of a registry without keeping it. After a broken transfer it goes on where that ended. The
 * caller verifies the digest. A chunk is valid until the next one is requested.
 * @throws SpandrelError BLOB_CORRUPT if the blob has another size, BLOB_UNKNOWN, UPSTREAM_*
 */
export async function* readBlob(
  source: BlobSource,
  { sizeBytes, retries, pause, signal }: ReadBlobOptions,
): AsyncGenerator<Uint8Array, void, void> {
  let read = 0;
  let failures = 0;
  while (read < sizeBytes) {
    try {
      const wanted = read === 0 ? undefined : { start: read, end: sizeBytes };
      const { range, totalBytes, body } = await source.fetch(wanted, signal, sizeBytes);
      if (totalBytes !== sizeBytes)
        throw new SpandrelError('BLOB_CORRUPT', `a layer has ${totalBytes} bytes instead of ${sizeBytes}`);
      let at = range.start;
      for await (const chunk of body) {
        // A registry without ranges sends the whole blob again.
        const rest = chunk.subarray(Math.max(0, read - at));
        at += chunk.byteLength;
        if (rest.byteLength === 0) continue;
        yield rest;
        read = at;
        failures = 0;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!isBrokenTransfer(error) || failures >= retries) throw error;
      await pause(backoffMs(failures++), signal);
    }
  }
}
