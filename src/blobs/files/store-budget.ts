import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { digestOfKey, type StoreKey } from './store-key.ts';

/** A blob of which the store has something. */
export interface StoredBlob {
  /** Of the whole blob. */
  readonly sizeBytes: number;
  /** What it takes of the store: all of it, or what has arrived and what is kept free for the rest. */
  readonly heldBytes: number;
  /** File of a blob that is not whole. */
  readonly partialPath?: string | undefined;
  /** It lies where whole blobs do, but nothing says that its digest has been found right: its size is no more than that of the file. */
  readonly isUnverified?: boolean | undefined;
}

/** A blob that is to go. */
interface Victim {
  readonly key: StoreKey;
  readonly blob: StoredBlob;
}

interface Entry {
  blob: StoredBlob;
  pins: number;
  /** Settles when it is in use no more; there if somebody waits for that. */
  free: PromiseWithResolvers<void> | undefined;
  /** What {@link StoreBudget.noteUse} was last told, milliseconds of the epoch. */
  usedAtMs: number;
}

/** The time of use of a blob need not be exact. */
const USE_RESOLUTION_MS = 60_000;

/** What the store holds, in the order of use, and what may go when room is needed. No I/O. */
export class StoreBudget {
  readonly #maxBytes: number;
  readonly #otherBytes: () => number;
  /** Least recently used first. */
  readonly #entries = new Map<StoreKey, Entry>();
  /** Keys of what is not whole. */
  readonly #partials = new Map<Digest, Set<StoreKey>>();
  #completeBytes = 0;
  #partialBytes = 0;
  #completeCount = 0;
  #pins = 0;

  /** @param otherBytes what else there is, that is not to be planned with here */
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

  /** Complete blobs. */
  get count(): number {
    return this.#completeCount;
  }

  /** Times that blobs are in use, those included that have gone since. */
  get pins(): number {
    return this.#pins;
  }

  get(key: StoreKey): StoredBlob | undefined {
    return this.#entries.get(key)?.blob;
  }

  /** All that there is of a blob, whole or not. */
  keysOf(digest: Digest): StoreKey[] {
    return [...(this.#entries.has(digest) ? [digest] : []), ...(this.#partials.get(digest) ?? [])];
  }

  isPinned(key: StoreKey): boolean {
    return (this.#entries.get(key)?.pins ?? 0) > 0;
  }

  /** Resolves when nobody uses the blob; it may be in use again by the time when that is heard of. */
  async whenFree(key: StoreKey): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.pins > 0) await (entry.free ??= Promise.withResolvers()).promise;
  }

  *entries(): Generator<readonly [StoreKey, StoredBlob]> {
    for (const [key, { blob }] of this.#entries) yield [key, blob];
  }

  /** As the most recently used. Pins of the same blob stay. */
  set(key: StoreKey, blob: StoredBlob): void {
    const entry = this.#entries.get(key) ?? { blob, pins: 0, free: undefined, usedAtMs: 0 };
    this.remove(key);
    entry.blob = blob;
    this.#entries.set(key, entry);
    this.#count(blob, 1);
    this.#list(key);
  }

  /** What has come under `key` is the whole blob: whoever uses the one uses the other. */
  promote(key: StoreKey, blob: StoredBlob): void {
    const digest = digestOfKey(key);
    const entry = this.#entries.get(key);
    if (key !== digest && entry !== undefined) {
      this.remove(key);
      // Another upstream has sent all of it before.
      if (this.#entries.has(digest)) return;
      this.#entries.set(digest, entry);
      this.#count(entry.blob, 1);
    }
    this.set(digest, blob);
  }

  /** Say something else of the same blob, which keeps its place in the order of use. */
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

  /** Used now, and not to be evicted until the returned function has been called. */
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

  /** True if the time of use should be written down again. */
  noteUse(key: StoreKey, nowMs: number): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs - entry.usedAtMs < USE_RESOLUTION_MS) return false;
    entry.usedAtMs = nowMs;
    return true;
  }

  /** The blobs that have to go so that `bytes` more fit. @throws SpandrelError STORE_FULL if that is not enough */
  planEviction(bytes: number): Victim[] {
    const { victims, missingBytes } = this.#findVictims(this.#excessBytes + bytes);
    if (missingBytes > 0)
      throw new SpandrelError('STORE_FULL', `${bytes} bytes do not fit into the store`, {
        detail: { maxBytes: this.#maxBytes },
      });
    return victims;
  }

  /** The blobs whose going frees about so many bytes; fewer if the others are in use. */
  planRelief(bytes: number = this.#excessBytes): Victim[] {
    return this.#findVictims(bytes).victims;
  }

  /** What there is beyond the bound; negative as long as there is room. */
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
