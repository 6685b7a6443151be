import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';

const MAX_MEASURED = 10_000;

/** Sizes of blobs whose upstream sends no length. Losing an entry costs one transfer. */
export class MeasuredBlobs {
  /** No size: a response had another length than HEAD says. */
  readonly #sizes = new BoundedMap<{ readonly bytes: number | undefined }>({ maxEntries: MAX_MEASURED });

  get(repository: string, digest: Digest): number | undefined {
    return this.#sizes.get(`${repository}@${digest}`)?.bytes;
  }

  set(repository: string, digest: Digest, bytes: number): void {
    this.#sizes.set(`${repository}@${digest}`, { bytes });
  }

  /** A response had another length: one of the two may have been cut short. */
  forget(repository: string, digest: Digest): void {
    this.#sizes.set(`${repository}@${digest}`, { bytes: undefined });
  }

  /** Whether what HEAD says is to be believed. */
  trustsHead(repository: string, digest: Digest): boolean {
    return this.#sizes.get(`${repository}@${digest}`) === undefined;
  }
}
