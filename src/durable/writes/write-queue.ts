import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import type { DurableDrop, DurableKind } from '../../telemetry/durable/durable-metrics.ts';
import type { Events } from '../../telemetry/events.ts';

/** Something to be written to the object store. */
export interface Write {
  /** Of its object. A newer write of the same name replaces an older one that still waits. */
  readonly name: string;
  /** Bytes that it keeps in memory until it is over. */
  readonly bytes: number;
  /** @returns false if there is nothing to write any more */
  run(signal: AbortSignal): Promise<boolean>;
  /** Called once, when it is written, dropped or replaced. */
  over?(): void;
}

export interface WritePauses {
  /** After the first failure of the store; doubles with each further one. */
  readonly firstMs: number;
  readonly longestMs: number;
}

export interface WriteQueueOptions {
  readonly kind: DurableKind;
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** Writes at the same time. */
  readonly parallel: number;
  readonly pauses?: WritePauses | undefined;
  readonly events: Events;
}

interface Waiting {
  readonly write: Write;
  readonly attempts: number;
}

/** Other errors are about the one thing that is written. */
const STORE_FAILS: readonly ErrorCode[] = [
  'UPSTREAM_UNREACHABLE',
  'UPSTREAM_TIMEOUT',
  'UPSTREAM_THROTTLED',
  'UPSTREAM_CREDENTIALS_REFUSED',
  'RESOURCE_EXHAUSTED',
];
const PAUSES: WritePauses = { firstMs: 1_000, longestMs: 30_000 };
/** Of a write that the store refuses while it takes others. */
const MAX_ATTEMPTS = 3;

/**
 * Writes that nobody waits for. When the store fails, the queue pauses and begins again; what does not fit
 * into the queue is dropped, and counted.
 */
export class WriteQueue implements AsyncDisposable {
  readonly #options: WriteQueueOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #running = new Map<string, { readonly write: Write; readonly done: Promise<void> }>();
  readonly #stopping = new AbortController();
  #bytes = 0;
  #failures = 0;
  #pause: NodeJS.Timeout | undefined;
  #isClosed = false;
  #onIdle: (() => void) | undefined;

  constructor(options: WriteQueueOptions) {
    this.#options = options;
    this.#announce();
  }

  /** @returns false if it is dropped at once; then `over` is not called */
  add(write: Write): boolean {
    if (this.#isClosed) return this.#refuse('stopped');
    const known = this.#waiting.get(write.name)?.write;
    const { maxEntries, maxBytes } = this.#options;
    const bytes = this.#bytes - (known?.bytes ?? 0) + write.bytes;
    const entries = this.#waiting.size + this.#running.size + (known === undefined ? 1 : 0);
    if (entries > maxEntries || bytes > maxBytes) return this.#refuse('full');
    this.#put({ write, attempts: 0 });
    known?.over?.();
    this.#work();
    return true;
  }

  /** Writes that are not over. */
  get length(): number {
    return this.#waiting.size + this.#running.size;
  }

  /** Resolves when everything is written, at once if the store fails, or after `ms`. */
  async drain(ms: number): Promise<void> {
    if (this.length === 0 || this.#pause !== undefined) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#onIdle = (): void => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#onIdle = undefined;
  }

  /** Drops what waits. Dispose of it after {@link drain}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#pause);
    this.#stopping.abort(new DOMException('the proxy is being stopped', 'AbortError'));
    await Promise.allSettled(Array.from(this.#running.values(), ({ done }) => done));
    if (this.#waiting.size > 0)
      this.#options.events.durable.dropped(this.#options.kind, 'stopped', { entries: this.#waiting.size });
    for (const { write } of this.#waiting.values()) write.over?.();
    this.#waiting.clear();
    this.#bytes = 0;
    this.#announce();
  }

  #work(): void {
    if (this.#isClosed || this.#pause !== undefined) return;
    for (const [name, waiting] of this.#waiting) {
      // After a failure one write tries whether the store is back.
      if (this.#running.size >= (this.#failures > 0 ? 1 : this.#options.parallel)) break;
      // Two writes of one object would race.
      if (this.#running.has(name)) continue;
      this.#waiting.delete(name);
      const done = this.#run(waiting).finally(() => {
        this.#running.delete(name);
        this.#bytes -= waiting.write.bytes;
        this.#announce();
        this.#work();
        if (this.length === 0 || this.#pause !== undefined) this.#onIdle?.();
      });
      this.#running.set(name, { write: waiting.write, done });
    }
    this.#announce();
  }

  /** Never throws. */
  async #run({ write, attempts }: Waiting): Promise<void> {
    try {
      const isWritten = await write.run(this.#stopping.signal);
      this.#failures = 0;
      if (!isWritten) this.#drop('evicted');
      write.over?.();
    } catch (error) {
      const isOfStore = isSpandrelError(error, ...STORE_FAILS);
      const tried = isOfStore ? attempts : attempts + 1;
      const isOver = this.#isClosed || tried >= MAX_ATTEMPTS;
      if (isOver) this.#drop(this.#isClosed ? 'stopped' : 'refused', error);
      if (isOfStore && !this.#isClosed) this.#wait();
      // A newer write of the name may have come meanwhile.
      if (isOver || this.#waiting.has(write.name)) write.over?.();
      else this.#put({ write, attempts: tried });
    }
  }

  #put(waiting: Waiting): void {
    const { write } = waiting;
    this.#bytes += write.bytes - (this.#waiting.get(write.name)?.write.bytes ?? 0);
    this.#waiting.set(write.name, waiting);
    this.#announce();
  }

  #wait(): void {
    if (this.#pause !== undefined) return;
    const { firstMs, longestMs } = this.#options.pauses ?? PAUSES;
    const pauseMs = Math.min(longestMs, firstMs * 2 ** this.#failures);
    this.#failures++;
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#work();
    }, pauseMs).unref();
  }

  #refuse(reason: DurableDrop): false {
    this.#drop(reason);
    return false;
  }

  #drop(reason: DurableDrop, cause?: unknown): void {
    this.#options.events.durable.dropped(this.#options.kind, reason, { cause });
  }

  #announce(): void {
    this.#options.events.durable.queueChanged(this.#options.kind, this.length, this.#bytes);
  }
}
