import { type ProvenBytes, provenBytes } from '../core/proven-bytes.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';

/** Asks the upstream for the size of a blob, by a range of one byte. @throws as {@link BlobSource.fetch} */
export async function fetchBlobSize(
  source: BlobSource,
  signal: AbortSignal | undefined,
): Promise<ProvenBytes> {
  const leaving = new AbortController();
  const wanted = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  try {
    return provenBytes((await source.fetch({ start: 0, end: 1 }, wanted)).totalBytes);
  } finally {
    leaving.abort();
  }
}
