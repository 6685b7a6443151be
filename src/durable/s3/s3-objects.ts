import type { BlobResponse } from '../../core/sources/blob-source.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import { digestHex, digestOfLarge } from '../../core/digest.ts';
import type { CircuitOptions } from '../../core/work/circuit-breaker.ts';
import type { Events } from '../../telemetry/events.ts';
import type {
  LargeContent,
  ObjectState,
  ObjectStore,
  ReadObject,
  WriteOptions,
  WriteOutcome,
} from '../objects/object-store.ts';
import { ConditionalWrites } from './conditional-writes.ts';
import { MultipartUploads } from './multipart-uploads.ts';
import { ObjectReads, type ReadTimeouts } from './object-reads.ts';
import { type LifecycleRule, openS3Api, type S3Api, type S3Place, type S3Timeouts } from './s3-api.ts';
import { hasStatus } from './s3-fault.ts';
import { StoreGate } from './store-gate.ts';

export interface S3ObjectsOptions {
  readonly place: S3Place;
  readonly writes?: S3Timeouts;
  readonly reads?: ReadTimeouts;
  readonly circuit?: CircuitOptions;
  readonly partBytes?: number;
  readonly events: Events;
}

const WRITES: S3Timeouts = { connectMs: 5_000, requestMs: 60_000, retries: 2 };
const CIRCUIT: CircuitOptions = { failures: 3, openMs: 10_000 };
/** Another writer of the same object is at work. */
const CONFLICT = 409;
const EXISTS = 412;
const MAX_CONFLICTS = 3;

/** The objects of a bucket: written and signed with the AWS SDK, read from signed URLs. */
export class S3Objects implements ObjectStore, AsyncDisposable {
  readonly #api: S3Api;
  readonly #gate: StoreGate;
  readonly #reads: ObjectReads;
  readonly #uploads: MultipartUploads;
  readonly #events: Events;
  readonly #conditional = new ConditionalWrites();

  private constructor(api: S3Api, options: S3ObjectsOptions) {
    const { events, circuit = CIRCUIT, reads, partBytes } = options;
    this.#api = api;
    this.#events = events;
    this.#gate = new StoreGate({ circuit, events });
    this.#reads = new ObjectReads({ api, gate: this.#gate, timeouts: reads, events });
    this.#uploads = new MultipartUploads({
      api,
      gate: this.#gate,
      conditional: this.#conditional,
      partBytes,
      events,
    });
  }

  /** @throws SpandrelError CONFIG_INVALID if nothing says the region */
  static async open(options: S3ObjectsOptions): Promise<S3Objects> {
    return new S3Objects(await openS3Api(options.place, options.writes ?? WRITES), options);
  }

  /** Region of the bucket. */
  region(): Promise<string> {
    return this.#api.region();
  }

  /** The circuit of the store. */
  get gate(): Pick<StoreGate, 'isOpen' | 'lastFailure'> {
    return this.#gate;
  }

  fetch(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined> {
    return this.#reads.fetch(name, range, signal, sizeBytes);
  }

  read(name: string, maxBytes: number, signal: AbortSignal): Promise<ReadObject | undefined> {
    return this.#reads.read(name, maxBytes, signal);
  }

  locate(name: string): Promise<URL> {
    return this.#reads.locate(name);
  }

  async stat(name: string, signal: AbortSignal): Promise<ObjectState | undefined> {
    const state = await this.#gate.run('stat', signal, async () => {
      try {
        return await this.#api.stat(name, signal);
      } catch (error) {
        if (hasStatus(error, 404)) return undefined;
        throw error;
      }
    });
    this.#events.durable.responded('stat', state === undefined ? 'absent' : 'ok');
    return state;
  }

  async write(
    name: string,
    bytes: Uint8Array<ArrayBuffer>,
    { ifAbsent, sha256 }: WriteOptions,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const hash = sha256 ?? digestHex(await digestOfLarge(bytes));
    const outcome = await this.#gate.run('put', signal, async (): Promise<WriteOutcome> => {
      for (let conflicts = 0; ; conflicts++)
        try {
          const put = (isConditional: boolean): Promise<void> =>
            this.#api.put(name, { Body: bytes, sha256: hash, ifAbsent: isConditional }, signal);
          await (ifAbsent ? this.#conditional.run(put) : put(false));
          return 'written';
        } catch (error) {
          if (hasStatus(error, EXISTS)) return 'exists';
          if (!hasStatus(error, CONFLICT) || conflicts >= MAX_CONFLICTS) throw error;
        }
    });
    this.#events.durable.responded('put', outcome === 'written' ? 'ok' : 'exists');
    if (outcome === 'written') this.#events.durable.bytesWritten(bytes.byteLength);
    return outcome;
  }

  writeLarge(name: string, content: LargeContent, signal: AbortSignal): Promise<WriteOutcome> {
    return this.#uploads.write(name, content, signal);
  }

  /**
   * Aborts unfinished uploads of names with a prefix that began before `ageMs`: of processes that have ended.
   */
  abortOldUploads(prefix: string, ageMs: number, signal: AbortSignal): Promise<void> {
    return this.#uploads.abortOld(prefix, ageMs, signal);
  }

  /**
   * What the enabled lifecycle rules of the bucket do, by age in days; none if the bucket has no rules.
   */
  async lifecycle(signal: AbortSignal): Promise<readonly LifecycleRule[]> {
    return this.#gate.run('list', signal, async () => {
      try {
        return await this.#api.lifecycle(signal);
      } catch (error) {
        if (hasStatus(error, 404)) return [];
        throw error;
      }
    });
  }

  async delete(name: string, signal: AbortSignal): Promise<void> {
    await this.#gate.run('delete', signal, () => this.#api.remove(name, signal));
    this.#events.durable.responded('delete', 'ok');
    this.#reads.forget(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#api.close();
    await this.#reads[Symbol.asyncDispose]();
  }
}
