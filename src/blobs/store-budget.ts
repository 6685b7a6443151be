import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';

interface Entry {
  readonly sizeBytes: number;
  pins: number;
}

/** What the store holds, in the order of use, and what may go when room is needed. No I/O. */
export class StoreBudget {
  readonly #maxBytes: number;
  /** Least recently used first. */
  readonly #entries = new Map<Digest, Entry>();
  #completeBytes = 0;
  #reservedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Complete blobs and what is reserved for those that are arriving. */
  get usedBytes(): number {
    return this.#completeBytes + this.#reservedBytes;
  }

  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  get count(): number {
    return this.#entries.size;
  }

  sizeOf(digest: Digest): number | undefined {
    return this.#entries.get(digest)?.sizeBytes;
  }

  isPinned(digest: Digest): boolean {
    return (this.#entries.get(digest)?.pins ?? 0) > 0;
  }

  *entries(): Generator<readonly [Digest, number]> {
    for (const [digest, { sizeBytes }] of this.#entries) yield [digest, sizeBytes];
  }

  /** As the most recently used. */
  add(digest: Digest, sizeBytes: number): void {
    this.remove(digest);
    this.#entries.set(digest, { sizeBytes, pins: 0 });
    this.#completeBytes += sizeBytes;
  }

  remove(digest: Digest): void {
    this.#completeBytes -= this.#entries.get(digest)?.sizeBytes ?? 0;
    this.#entries.delete(digest);
  }

  /** Used now, and not to be evicted until unpinned as often. */
  pin(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    entry.pins++;
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
  }

  unpin(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry !== undefined && entry.pins > 0) entry.pins--;
  }

  reserve(bytes: number): void {
    this.#reservedBytes += bytes;
  }

  release(bytes: number): void {
    this.#reservedBytes -= bytes;
  }

  /** The blobs that have to go so that `bytes` more fit. @throws SpandrelError STORE_FULL if that is not enough */
  planEviction(bytes: number): Digest[] {
    const victims: Digest[] = [];
    let excess = this.usedBytes + bytes - this.#maxBytes;
    for (const [digest, { sizeBytes, pins }] of this.#entries) {
      if (excess <= 0) break;
      if (pins > 0) continue;
      victims.push(digest);
      excess -= sizeBytes;
    }
    if (excess > 0)
      throw new SpandrelError('STORE_FULL', `${bytes} bytes do not fit into the store`, {
        detail: { maxBytes: this.#maxBytes },
      });
    return victims;
  }
}
