import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';

const MAX_MEASURED = 10_000;

/** Sizes of blobs whose upstream does not tell them. Forgetting one costs a transfer, nothing else. */
export class MeasuredBlobs {
  readonly #sizes = new BoundedMap<{ readonly bytes: number }>({ maxEntries: MAX_MEASURED });

  get(repository: string, digest: Digest): number | undefined {
    return this.#sizes.get(`${repository}@${digest}`)?.bytes;
  }

  set(repository: string, digest: Digest, bytes: number): void {
    this.#sizes.set(`${repository}@${digest}`, { bytes });
  }

  /** An answer had another length: that one or this may have been cut off. */
  forget(repository: string, digest: Digest): void {
    this.#sizes.delete(`${repository}@${digest}`);
  }
}
