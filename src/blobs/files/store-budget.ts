import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { digestOfKey, type StoreKey } from './store-key.ts';

/** A blob that the store has, whole or in part. */
export interface StoredBlob {
  /** Size of the whole blob. */
  readonly sizeBytes: number;
  /**
   * Bytes that count for the store: the whole blob, or what has arrived and what is reserved for the rest.
   */
  readonly heldBytes: number;
  /** File of a partial blob. */
  readonly partialPath?: string | undefined;
  /**
   * It is among the complete blobs, but no record says that its digest was verified: its size is that of the
   * file.
   */
  readonly isUnverified?: boolean | undefined;
}

/** A blob to evict. */
interface Victim {
  readonly key: StoreKey;
  readonly blob: StoredBlob;
}

interface Entry {
  blob: StoredBlob;
  pins: number;
  /** Settles when the blob is no longer in use; set if a caller waits for that. */
  free: PromiseWithResolvers<void> | undefined;
  /** Last time of {@link StoreBudget.noteUse}, milliseconds of the epoch. */
  usedAtMs: number;
}

/** Resolution of a blob's time of use. */
const USE_RESOLUTION_MS = 60_000;

/** Tracks the content of the store in the order of use, and plans evictions. No I/O. */
export class StoreBudget {
  readonly #maxBytes: number;
  readonly #otherBytes: () => number;
  /** Least recently used first. */
  readonly #entries = new Map<StoreKey, Entry>();
  /** Keys of partial blobs. */
  readonly #partials = new Map<Digest, Set<StoreKey>>();
  #completeBytes = 0;
  #partialBytes = 0;
  #completeCount = 0;
  #pins = 0;

  /** @param otherBytes bytes of the store that are not blobs */
  constructor(maxBytes: number, otherBytes: () => number = () => 0) {
    this.#maxBytes = maxBytes;
    this.#otherBytes = otherBytes;
  }

  get usedBytes(): number {
    return this.#completeBytes + this.#partialBytes;
  }

  get completeBytes(): number {
    return this.#completeBytes;
  }

  get partialBytes(): number {
    return this.#partialBytes;
  }

  /** Number of complete blobs. */
  get count(): number {
    return this.#completeCount;
  }

  /** Number of pins, including those of removed blobs. */
  get pins(): number {
    return this.#pins;
  }

  get(key: StoreKey): StoredBlob | undefined {
    return this.#entries.get(key)?.blob;
  }

  /** Keys of a blob, whole and partial. */
  keysOf(digest: Digest): StoreKey[] {
    return [...(this.#entries.has(digest) ? [digest] : []), ...(this.#partials.get(digest) ?? [])];
  }

  isPinned(key: StoreKey): boolean {
    return (this.#entries.get(key)?.pins ?? 0) > 0;
  }

  /** Resolves when the blob is no longer in use. It may be in use again when the caller continues. */
  async whenFree(key: StoreKey): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.pins > 0) await (entry.free ??= Promise.withResolvers()).promise;
  }

  *entries(): Generator<readonly [StoreKey, StoredBlob]> {
    for (const [key, { blob }] of this.#entries) yield [key, blob];
  }

  /** Adds or replaces a blob as the most recently used. Pins of the same blob stay. */
  set(key: StoreKey, blob: StoredBlob): void {
    const entry = this.#entries.get(key) ?? { blob, pins: 0, free: undefined, usedAtMs: 0 };
    this.remove(key);
    entry.blob = blob;
    this.#entries.set(key, entry);
    this.#count(blob, 1);
    this.#list(key);
  }

  /** The partial blob `key` is now complete: users of one use the other. */
  promote(key: StoreKey, blob: StoredBlob): void {
    const digest = digestOfKey(key);
    const entry = this.#entries.get(key);
    if (key !== digest && entry !== undefined) {
      this.remove(key);
      // Another upstream has already sent the whole blob.
      if (this.#entries.has(digest)) return;
      this.#entries.set(digest, entry);
      this.#count(entry.blob, 1);
    }
    this.set(digest, blob);
  }

  /** Changes the entry of a blob, which keeps its place in the order of use. */
  replace(key: StoreKey, blob: StoredBlob): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#count(entry.blob, -1);
    entry.blob = blob;
    this.#count(blob, 1);
  }

  remove(key: StoreKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#count(entry.blob, -1);
    this.#unlist(key);
  }

  #list(key: StoreKey): void {
    const digest = digestOfKey(key);
    if (key === digest) return;
    const keys = this.#partials.get(digest) ?? new Set();
    this.#partials.set(digest, keys.add(key));
  }

  #unlist(key: StoreKey): void {
    const digest = digestOfKey(key);
    const keys = this.#partials.get(digest);
    keys?.delete(key);
    if (keys?.size === 0) this.#partials.delete(digest);
  }

  /** Marks a blob as used, and keeps it from eviction until the returned function is called. */
  pin(key: StoreKey): () => void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return () => undefined;
    entry.pins++;
    this.#pins++;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    let isPinned = true;
    return () => {
      if (!isPinned) return;
      isPinned = false;
      entry.pins--;
      this.#pins--;
      if (entry.pins > 0) return;
      entry.free?.resolve();
      entry.free = undefined;
    };
  }

  /** Returns true if the time of use should be stored again. */
  noteUse(key: StoreKey, nowMs: number): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs - entry.usedAtMs < USE_RESOLUTION_MS) return false;
    entry.usedAtMs = nowMs;
    return true;
  }

  /** The blobs to evict so that `bytes` more fit. @throws SpandrelError STORE_FULL if that is not enough */
  planEviction(bytes: number): Victim[] {
    const { victims, missingBytes } = this.#findVictims(this.#excessBytes + bytes);
    if (missingBytes > 0)
      throw new SpandrelError('STORE_FULL', `${bytes} bytes do not fit into the store`, {
        detail: { maxBytes: this.#maxBytes },
      });
    return victims;
  }

  /** The blobs to evict to free about `bytes`; fewer if the others are in use. */
  planRelief(bytes: number = this.#excessBytes): Victim[] {
    return this.#findVictims(bytes).victims;
  }

  /** Bytes beyond the limit; negative while there is room. */
  get #excessBytes(): number {
    return this.usedBytes + this.#otherBytes() - this.#maxBytes;
  }

  #findVictims(bytes: number): { victims: Victim[]; missingBytes: number } {
    const victims: Victim[] = [];
    let missingBytes = bytes;
    for (const [key, { blob, pins }] of this.#entries) {
      if (missingBytes <= 0) break;
      if (pins > 0) continue;
      victims.push({ key, blob });
      missingBytes -= blob.heldBytes;
    }
    return { victims, missingBytes };
  }

  #count({ heldBytes, partialPath }: StoredBlob, sign: 1 | -1): void {
    if (partialPath === undefined) {
      this.#completeBytes += sign * heldBytes;
      this.#completeCount += sign;
    } else {
      this.#partialBytes += sign * heldBytes;
    }
  }
}
