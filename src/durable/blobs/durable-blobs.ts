import { BoundedMap } from '../../cache/bounded-map.ts';
import type { BlobResponse } from '../../core/sources/blob-source.ts';
import type { BlobTier, TierBlob, TierOutcome } from '../../core/sources/blob-tier.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { Events } from '../../telemetry/events.ts';
import { blobObjectName } from '../objects/blob-object-name.ts';
import type { LargeContent, ObjectStore } from '../objects/object-store.ts';
import { ByteRate } from '../writes/byte-rate.ts';
import { type WritePauses, WriteQueue } from '../writes/write-queue.ts';

/** A complete, verified blob of the local store. */
export interface StoredContent extends LargeContent, AsyncDisposable {}

export interface DurableBlobsDeps {
  readonly objects: ObjectStore;
  readonly prefix: string;
  /** Whether blobs of an upstream are kept in the store. */
  readonly keeps: (upstream: string) => boolean;
  /** Most bytes written in a second; 0 for no limit. */
  readonly bytesPerSecond: number;
  readonly pauses?: WritePauses | undefined;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

type Known = { readonly is: 'there' | 'absent'; readonly atMs: number };

/** Only digests wait, not bytes: the blobs are on disk. */
const MAX_QUEUED = 10_000;
const PARALLEL = 2;
/** Up to this size a blob is written at once. */
const WHOLE_BYTES = 8 * 2 ** 20;
const MAX_KNOWN = 50_000;
/** Another replica may write the blob at any time. */
const ABSENT_MS = 30_000;
/** A rule of the bucket may delete the blob at any time. */
const THERE_MS = 3_600_000;
/** Blobs in use are looked after this often, and while fewer than these wait. */
const OFFERED_MS = 24 * 3_600_000;
const MAX_OFFERED = 2_000;
/** Clients that are sent to a blob that is gone fail. */
const LOCATED_MS = 60_000;
/** A client waits. */
const ANSWER_MS = 1_500;

/** Blobs in the object store, by digest: read by fills before they ask the upstream, and written behind. */
export class DurableBlobs implements BlobTier, AsyncDisposable {
  readonly name = 's3';
  readonly #deps: DurableBlobsDeps;
  readonly #now: () => number;
  readonly #known = new BoundedMap<Known>({ maxEntries: MAX_KNOWN });
  /** Blobs whose objects do not match their digest, until they are deleted. */
  readonly #wrong = new BoundedMap<{ readonly name: string }>({ maxEntries: MAX_QUEUED });
  /** Blobs that were in use. */
  readonly #offered = new BoundedMap<{ readonly atMs: number }>({ maxEntries: MAX_KNOWN });
  readonly #queue: WriteQueue;
  readonly #rate: ByteRate;
  #open: (digest: Digest) => Promise<StoredContent | undefined> = () => Promise.resolve(undefined);

  constructor(deps: DurableBlobsDeps) {
    const { events, pauses, bytesPerSecond, now = (): number => performance.now() } = deps;
    this.#deps = deps;
    this.#now = now;
    this.#rate = new ByteRate(bytesPerSecond);
    const bounds = { maxEntries: MAX_QUEUED, maxBytes: Infinity, parallel: PARALLEL };
    this.#queue = new WriteQueue({ kind: 'blob', ...bounds, pauses, events });
  }

  /** Sets the local store. @param open opens a complete blob; `undefined` if the store does not have it */
  copyFrom(open: (digest: Digest) => Promise<StoredContent | undefined>): void {
    this.#open = open;
  }

  async fetch(
    { digest, upstream }: TierBlob,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined> {
    if (!this.#deps.keeps(upstream) || this.#lately(digest) === 'absent') return undefined;
    try {
      const response = await this.#deps.objects.fetch(this.#nameOf(digest), range, signal, sizeBytes);
      this.#note(digest, response === undefined ? 'absent' : 'there');
      return response && { ...response, body: this.#watch(digest, response.body) };
    } catch (error) {
      signal.throwIfAborted();
      if (!isSpandrelError(error)) throw error;
      // An object of another size is replaced when the blob has come from elsewhere.
      if (error.code === 'UPSTREAM_PROTOCOL') this.#note(digest, 'absent');
    }
    return undefined;
  }

  /** After a body that breaks off, the rest comes from the next source. */
  async *#watch(digest: Digest, body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    try {
      yield* body;
    } catch (error) {
      if (isSpandrelError(error)) this.#note(digest, 'absent');
      throw error;
    }
  }

  ended({ digest, upstream }: TierBlob, outcome: TierOutcome): void {
    if (!this.#deps.keeps(upstream)) return;
    if (outcome === 'wrong') this.#remove(digest);
    if (outcome === 'complete') this.#copy(digest);
  }

  used(digest: Digest, upstream: string): void {
    if (!this.#deps.keeps(upstream)) return;
    const offered = this.#offered.get(digest);
    if (offered !== undefined && this.#now() - offered.atMs < OFFERED_MS) return;
    // New blobs come first.
    if (this.#queue.length >= MAX_OFFERED) return;
    this.#offered.set(digest, { atMs: this.#now() });
    this.#copy(digest);
  }

  /**
   * A URL from which anybody can read the blob for some minutes; `undefined` if the store does not have it,
   * fails, or does not respond in time.
   */
  async locate(upstream: string, digest: Digest, signal: AbortSignal): Promise<URL | undefined> {
    return this.#ask(digest, upstream, signal, async (name, ending) => {
      const isThere =
        this.#lately(digest, LOCATED_MS) === 'there' || (await this.#stat(digest, ending)) !== undefined;
      return isThere ? this.#deps.objects.locate(name) : undefined;
    });
  }

  async size(digest: Digest, upstream: string, signal: AbortSignal): Promise<number | undefined> {
    return this.#ask(digest, upstream, signal, (_, ending) => this.#stat(digest, ending));
  }

  async #stat(digest: Digest, signal: AbortSignal): Promise<number | undefined> {
    const found = await this.#deps.objects.stat(this.#nameOf(digest), signal);
    this.#note(digest, found === undefined ? 'absent' : 'there');
    return found?.sizeBytes;
  }

  /** The result of `ask`; `undefined` if the store does not have the blob, fails, or takes too long. */
  async #ask<T>(
    digest: Digest,
    upstream: string,
    signal: AbortSignal,
    ask: (name: string, signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    if (!this.#deps.keeps(upstream) || this.#lately(digest) === 'absent') return undefined;
    using limit = new TimeLimit(ANSWER_MS);
    try {
      return await ask(this.#nameOf(digest), limit.with(signal));
    } catch (error) {
      signal.throwIfAborted();
      if (!isSpandrelError(error) && !limit.isOver) throw error;
      return undefined;
    }
  }

  #copy(digest: Digest): void {
    if (this.#lately(digest) === 'there') return;
    this.#queue.add({ name: digest, bytes: 0, run: (signal) => this.#write(digest, signal) });
  }

  /** @returns false if the local store has evicted the blob */
  async #write(digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { objects } = this.#deps;
    const name = this.#nameOf(digest);
    await using content = await this.#open(digest);
    if (content === undefined) return false;
    const { sizeBytes } = content;
    await this.#deleteWrong(digest, signal);
    // Replicas that fill one blob at the same time all come here: most find it written.
    const found = await objects.stat(name, signal);
    const isThere = found?.sizeBytes === sizeBytes;
    if (found !== undefined && !isThere) await objects.delete(name, signal);
    if (!isThere) {
      const read: LargeContent['read'] = async (range, reading) => {
        await this.#rate.admit(range.end - range.start, reading);
        return content.read(range, reading);
      };
      if (sizeBytes > WHOLE_BYTES) await objects.writeLarge(name, { sizeBytes, read }, signal);
      else {
        const bytes = await read({ start: 0, end: sizeBytes }, signal);
        const sha256 = digestAlgorithm(digest) === 'sha256' ? digestHex(digest) : undefined;
        await objects.write(name, bytes, { ifAbsent: true, sha256 }, signal);
      }
    }
    this.#note(digest, 'there');
    return true;
  }

  /** The object does not match its digest. */
  #remove(digest: Digest): void {
    const name = this.#nameOf(digest);
    this.#deps.events.durable.foundWrong('blob', name);
    this.#note(digest, 'absent');
    this.#wrong.set(digest, { name });
    const run = async (signal: AbortSignal): Promise<boolean> => {
      await this.#deleteWrong(digest, signal);
      return true;
    };
    this.#queue.add({ name: digest, bytes: 0, run });
  }

  async #deleteWrong(digest: Digest, signal: AbortSignal): Promise<void> {
    const wrong = this.#wrong.get(digest);
    if (wrong === undefined) return;
    await this.#deps.objects.delete(wrong.name, signal);
    this.#wrong.delete(digest);
  }

  #lately(digest: Digest, thereMs = THERE_MS): Known['is'] | undefined {
    const known = this.#known.get(digest);
    if (known === undefined) return undefined;
    const validMs = known.is === 'there' ? thereMs : ABSENT_MS;
    return this.#now() - known.atMs < validMs ? known.is : undefined;
  }

  #note(digest: Digest, is: Known['is']): void {
    this.#known.set(digest, { is, atMs: this.#now() });
  }

  #nameOf(digest: Digest): string {
    return blobObjectName(this.#deps.prefix, digest);
  }

  /** Blobs that wait to be written. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Writes what waits, for `ms` at most. */
  drain(ms: number): Promise<void> {
    return this.#queue.drain(ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue[Symbol.asyncDispose]();
  }
}
