import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ByteCache, CacheHit, MakeValue } from '../../cache/byte-cache.ts';
import { ValueSeal } from '../../cache/value-seal.ts';
import { digestOf } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { SMALL_DOCUMENT_BYTES } from '../../core/work/in-own-turn.ts';
import type { Events } from '../../telemetry/events.ts';
import { recordObjectName } from '../objects/record-object-name.ts';
import type { ObjectStore, ReadObject, WriteOutcome } from '../objects/object-store.ts';
import { type WritePauses, WriteQueue } from '../writes/write-queue.ts';

export interface DurableRecordsDeps {
  readonly objects: ObjectStore;
  readonly prefix: string;
  /** Key with which replicas seal records. Without it, whoever can write to the bucket is trusted. */
  readonly key?: Secret | undefined;
  readonly pauses?: WritePauses | undefined;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

/** Makes a new value of what a record has; `undefined` if it may stay as it is. */
export type RecordChange = (bytes: Uint8Array | undefined) => Uint8Array | undefined;

/** As in Redis. */
const MAX_RECORD_BYTES = 64 * 2 ** 20;
const MAX_QUEUED = 20_000;
const MAX_QUEUED_BYTES = 64 * 2 ** 20;
const PARALLEL = 8;
/** Records in use are looked after while fewer than these wait. */
const MAX_KEPT = 2_000;
const MAX_REMEMBERED = 50_000;
/** Each one that is forgotten costs a request when it is used again. */
const MAX_WRITTEN = 200_000;
/** For the decision which of several replicas writes a record first; a client waits. */
const DECISION_MS = 2_000;
/** A miss is not looked for again so soon: most requests are for what no record is about. */
const ABSENT_MS = 10_000;
/**
 * A record in use is written again after this time even if it is the same: rules of the bucket delete by age.
 */
const RENEW_MS = 7 * 24 * 3_600_000;

interface Written {
  readonly digest: string;
  readonly atMs: number;
}

/**
 * Records in the object store, which outlive replicas and Redis. They are written behind: a process that dies
 * loses the last ones, which can be made again.
 */
export class DurableRecords implements ByteCache, AsyncDisposable {
  /** Only those who may write to the bucket can have written them. */
  readonly isAuthentic = true;
  readonly #deps: DurableRecordsDeps;
  readonly #seal: ValueSeal | undefined;
  readonly #now: () => number;
  readonly #absent = new BoundedMap<{ readonly atMs: number }>({ maxEntries: MAX_REMEMBERED });
  readonly #written = new BoundedMap<Written>({ maxEntries: MAX_WRITTEN });
  /** Values that wait to be written. */
  readonly #values = new Map<string, Uint8Array>();
  readonly #queue: WriteQueue;
  readonly #closing = new AbortController();

  constructor(deps: DurableRecordsDeps) {
    const { key, events, pauses, now = (): number => performance.now() } = deps;
    this.#deps = deps;
    this.#seal = key && new ValueSeal(key);
    this.#now = now;
    const bounds = { maxEntries: MAX_QUEUED, maxBytes: MAX_QUEUED_BYTES, parallel: PARALLEL };
    this.#queue = new WriteQueue({ kind: 'record', ...bounds, pauses, events });
  }

  async get(key: string): Promise<CacheHit | undefined> {
    const waiting = this.#values.get(key);
    if (waiting !== undefined) return { bytes: waiting, tier: 's3' };
    const absent = this.#absent.get(key);
    if (absent !== undefined && this.#now() - absent.atMs < ABSENT_MS) return undefined;
    const bytes = await this.#read(key);
    return bytes && { bytes, tier: 's3' };
  }

  async set(key: string, bytes: Uint8Array): Promise<void> {
    await Promise.resolve();
    if (bytes.byteLength > MAX_RECORD_BYTES) return;
    this.#absent.delete(key);
    const digest = knownDigestOf(bytes);
    const written = this.#written.get(key);
    const isSame = digest !== '' && written?.digest === digest;
    if (isSame && this.#now() - written.atMs < RENEW_MS && !this.#values.has(key)) return;
    this.#writeBehind(key, bytes, digest, isSame ? false : undefined);
  }

  #writeBehind(key: string, bytes: Uint8Array, digest: string, ifAbsent: boolean | undefined): void {
    this.#values.set(key, bytes);
    const isQueued = this.#queue.add({
      name: key,
      bytes: bytes.byteLength,
      run: async (signal) => {
        await this.#write(key, bytes, signal, ifAbsent);
        this.#written.set(key, { digest, atMs: this.#now() });
        return true;
      },
      over: () => {
        if (this.#values.get(key) === bytes) this.#values.delete(key);
      },
    });
    if (!isQueued) this.#values.delete(key);
  }

  keep(key: string, make: MakeValue): void {
    const written = this.#written.get(key);
    if (this.#values.has(key) || (written !== undefined && this.#now() - written.atMs < RENEW_MS)) return;
    // New records come first.
    if (this.#queue.length >= MAX_KEPT) return;
    this.#written.set(key, { digest: written?.digest ?? '', atMs: this.#now() });
    const run = async (signal: AbortSignal): Promise<boolean> => {
      const state = await this.#deps.objects.stat(this.#nameOf(key), signal);
      if (state !== undefined && state.ageMs < RENEW_MS) return true;
      const bytes = await make();
      if (bytes !== undefined && bytes.byteLength <= MAX_RECORD_BYTES)
        await this.#write(key, bytes, signal, state === undefined);
      return true;
    };
    this.#queue.add({ name: key, bytes: 0, run });
  }

  /** Writes at once: the store decides between replicas. If it does not in time, as {@link set}. */
  async setNew(key: string, bytes: Uint8Array): Promise<CacheHit | undefined> {
    const there = await this.get(key);
    if (there !== undefined) return there;
    using limit = new TimeLimit(DECISION_MS);
    const signal = limit.with(this.#closing.signal);
    // A failure is counted, and the queue tries again.
    const outcome = await this.#write(key, bytes, signal, true).catch(() => undefined);
    if (outcome === undefined) await this.set(key, bytes);
    this.#absent.delete(key);
    return outcome === 'exists' ? this.get(key) : undefined;
  }

  async delete(key: string): Promise<void> {
    await Promise.resolve();
    this.#values.delete(key);
    this.#written.delete(key);
    this.#absent.set(key, { atMs: this.#now() });
    const run = async (signal: AbortSignal): Promise<boolean> => {
      await this.#deps.objects.delete(this.#nameOf(key), signal);
      return true;
    };
    this.#queue.add({ name: key, bytes: 0, run });
  }

  /**
   * Reads a record and writes what `change` makes of it, behind; nothing if that is `undefined`. Resolves
   * when it is over. Of two replicas that do so at the same time, the last one counts.
   */
  async update(key: string, change: RecordChange): Promise<void> {
    const { objects } = this.#deps;
    const { promise, resolve } = Promise.withResolvers<void>();
    const run = async (signal: AbortSignal): Promise<boolean> => {
      const found = await objects.read(this.#nameOf(key), MAX_RECORD_BYTES, signal);
      const changed = change(await this.#open(key, found?.bytes));
      if (changed !== undefined) await this.#write(key, changed, signal);
      this.#absent.delete(key);
      return true;
    };
    if (this.#queue.add({ name: key, bytes: 0, run, over: resolve })) await promise;
  }

  /** Failures are misses. */
  async #read(key: string): Promise<Uint8Array | undefined> {
    const { objects } = this.#deps;
    let found: ReadObject | undefined;
    try {
      found = await objects.read(this.#nameOf(key), MAX_RECORD_BYTES, this.#closing.signal);
    } catch (error) {
      if (isSpandrelError(error) || this.#closing.signal.aborted) return undefined;
      throw error;
    }
    const bytes = await this.#open(key, found?.bytes);
    if (bytes === undefined || found === undefined) this.#absent.set(key, { atMs: this.#now() });
    else this.#noteRead(key, bytes, found.ageMs);
    return bytes;
  }

  /** What is there need not be written again, unless it is old. */
  #noteRead(key: string, bytes: Uint8Array, ageMs: number): void {
    const digest = knownDigestOf(bytes);
    this.#written.set(key, { digest, atMs: this.#now() - ageMs });
    if (ageMs >= RENEW_MS && this.#queue.length < MAX_KEPT) this.#writeBehind(key, bytes, digest, false);
  }

  /** The content of an object; `undefined` if there is none, or if its seal is wrong. */
  async #open(key: string, value: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const bytes = value && this.#isSealed(key) ? await this.#seal?.open(key, value) : value;
    if (value !== undefined && bytes === undefined)
      this.#deps.events.durable.foundWrong('record', this.#nameOf(key));
    return bytes;
  }

  async #write(
    key: string,
    bytes: Uint8Array,
    signal: AbortSignal,
    ifAbsent = isManifest(key),
  ): Promise<WriteOutcome> {
    const isSealed = this.#isSealed(key);
    const value = (isSealed ? await this.#seal?.close(key, bytes) : undefined) ?? bytes;
    // Its type asks for an `ArrayBuffer`, which every value has here.
    const body = value as Uint8Array<ArrayBuffer>;
    return this.#deps.objects.write(this.#nameOf(key), body, { ifAbsent }, signal);
  }

  /** Manifests are named by their digest, which readers compare. */
  #isSealed(key: string): boolean {
    return this.#seal !== undefined && !isManifest(key);
  }

  #nameOf(key: string): string {
    return recordObjectName(this.#deps.prefix, key);
  }

  /** Records that wait to be written. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Writes what waits, for `ms` at most. */
  drain(ms: number): Promise<void> {
    return this.#queue.drain(ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new DOMException('the proxy is being stopped', 'AbortError'));
    await this.#queue[Symbol.asyncDispose]();
    this.#values.clear();
  }
}

/** Of a small record; empty for one that is too large to be hashed here. */
function knownDigestOf(bytes: Uint8Array): string {
  return bytes.byteLength <= SMALL_DOCUMENT_BYTES ? digestOf(bytes) : '';
}

function isManifest(key: string): boolean {
  return key.startsWith('manifest:');
}
