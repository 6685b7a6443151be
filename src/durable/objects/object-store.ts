import type { BlobResponse } from '../../core/sources/blob-source.ts';
import type { ByteRange } from '../../core/byte-range.ts';

/** Content of a large object, which can be read in parts at the same time. */
export interface LargeContent {
  readonly sizeBytes: number;
  /** Reads a part of some MiB into a new buffer. */
  read(range: ByteRange, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export interface ObjectState {
  readonly sizeBytes: number;
  /** Since it was written, by the clocks of the store and of this machine. */
  readonly ageMs: number;
}

export interface ReadObject {
  readonly bytes: Buffer;
  /** As {@link ObjectState}. */
  readonly ageMs: number;
}

/** `exists`: there is an object of this name already, and it stays as it is. */
export type WriteOutcome = 'written' | 'exists';

export interface WriteOptions {
  /** Writes only if there is no object of the name. */
  readonly ifAbsent: boolean;
  /** SHA-256 of the content as hex digits, if it is known; the store compares it. */
  readonly sha256?: string | undefined;
}

/**
 * Objects by name: text of letters, digits and `._-/%`. All methods throw a SpandrelError
 * UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_THROTTLED or UPSTREAM_CREDENTIALS_REFUSED if the store
 * fails, UPSTREAM_PROTOCOL if it refuses this one object, and the reason of their signal.
 */
export interface ObjectStore {
  /**
   * Requests bytes of an object, or the whole of it; `undefined` if there is none. The body throws as the
   * methods do. If the object ends before the range, or does not have `sizeBytes`, it throws
   * UPSTREAM_PROTOCOL.
   */
  fetch(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined>;
  /** Reads a small object; `undefined` if there is none. Throws UPSTREAM_PROTOCOL if it is larger. */
  read(name: string, maxBytes: number, signal: AbortSignal): Promise<ReadObject | undefined>;
  /** `undefined` if there is none. */
  stat(name: string, signal: AbortSignal): Promise<ObjectState | undefined>;
  /** Writes an object at once, replacing an earlier one unless `ifAbsent` is set. */
  write(
    name: string,
    bytes: Uint8Array<ArrayBuffer>,
    options: WriteOptions,
    signal: AbortSignal,
  ): Promise<WriteOutcome>;
  /**
   * Writes an object in parts, if there is none of the name. Nobody sees it before it is whole; after a
   * failure, nothing of it is left.
   */
  writeLarge(name: string, content: LargeContent, signal: AbortSignal): Promise<WriteOutcome>;
  /** Deletes an object, if there is one. */
  delete(name: string, signal: AbortSignal): Promise<void>;
  /** A URL from which anybody can read the object for at least some minutes; it need not exist. */
  locate(name: string): Promise<URL>;
}
