import type { ByteRange } from '../../../src/core/byte-range.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import type { BlobResponse } from '../../../src/core/sources/blob-source.ts';
import type {
  LargeContent,
  ObjectState,
  ObjectStore,
  ReadObject,
  WriteOptions,
  WriteOutcome,
} from '../../../src/durable/objects/object-store.ts';

/** Objects in memory, counted. */
export class MemoryObjects implements ObjectStore {
  readonly objects = new Map<string, Buffer>();
  /** Requests so far, as `write name`. */
  readonly asked: string[] = [];
  /** By which objects age. */
  nowMs = 0;
  readonly #writtenAtMs = new Map<string, number>();
  /** Every request fails with it. */
  fault: SpandrelError | undefined;

  async fetch(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined> {
    const object = await this.#ask('fetch', name, signal);
    if (object === undefined) return undefined;
    const end = Math.min(range?.end ?? object.byteLength, object.byteLength);
    const start = range?.start ?? 0;
    const isOther = sizeBytes !== undefined && sizeBytes !== object.byteLength;
    if (isOther || (start >= end && object.byteLength > 0))
      throw new SpandrelError('UPSTREAM_PROTOCOL', 'not in the object');
    return {
      range: { start, end },
      totalBytes: object.byteLength,
      body: yieldOf(object.subarray(start, end)),
    };
  }

  async read(name: string, maxBytes: number, signal: AbortSignal): Promise<ReadObject | undefined> {
    const object = await this.#ask('read', name, signal);
    if (object !== undefined && object.byteLength > maxBytes)
      throw new SpandrelError('UPSTREAM_PROTOCOL', 'too large');
    return object && { bytes: object, ageMs: this.#ageMs(name) };
  }

  async stat(name: string, signal: AbortSignal): Promise<ObjectState | undefined> {
    const object = await this.#ask('stat', name, signal);
    return object && { sizeBytes: object.byteLength, ageMs: this.#ageMs(name) };
  }

  #ageMs(name: string): number {
    return this.nowMs - (this.#writtenAtMs.get(name) ?? 0);
  }

  async write(
    name: string,
    bytes: Uint8Array<ArrayBuffer>,
    { ifAbsent }: WriteOptions,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const there = await this.#ask('write', name, signal);
    if (ifAbsent && there !== undefined) return 'exists';
    this.objects.set(name, Buffer.from(bytes));
    this.#writtenAtMs.set(name, this.nowMs);
    return 'written';
  }

  async writeLarge(name: string, content: LargeContent, signal: AbortSignal): Promise<WriteOutcome> {
    const bytes = await content.read({ start: 0, end: content.sizeBytes }, signal);
    return this.write(name, bytes, { ifAbsent: true }, signal);
  }

  async delete(name: string, signal: AbortSignal): Promise<void> {
    await this.#ask('delete', name, signal);
    this.objects.delete(name);
  }

  async locate(name: string): Promise<URL> {
    await Promise.resolve();
    return new URL(`memory://objects/${name}`);
  }

  async #ask(what: string, name: string, signal: AbortSignal): Promise<Buffer | undefined> {
    signal.throwIfAborted();
    this.asked.push(`${what} ${name}`);
    await Promise.resolve();
    if (this.fault !== undefined) throw this.fault;
    return this.objects.get(name);
  }
}

async function* yieldOf(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  await Promise.resolve();
  if (bytes.byteLength > 0) yield bytes;
}
