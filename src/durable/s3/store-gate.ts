import { SpandrelError } from '../../core/errors.ts';
import { CircuitBreaker, type CircuitOptions } from '../../core/work/circuit-breaker.ts';
import type { DurableOp } from '../../telemetry/durable/durable-metrics.ts';
import type { Events } from '../../telemetry/events.ts';
import { explainS3Fault, type S3Fault } from './s3-fault.ts';

export interface StoreGateDeps {
  readonly circuit: CircuitOptions;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

/** Every request to the object store passes it: counts them, explains faults, and keeps the circuit. */
export class StoreGate {
  readonly #events: Events;
  readonly #breaker: CircuitBreaker;
  readonly #now: () => number;

  constructor({ circuit, events, now = (): number => performance.now() }: StoreGateDeps) {
    this.#breaker = new CircuitBreaker(circuit);
    this.#events = events;
    this.#now = now;
  }

  /** The store fails and gets no requests for a while. */
  get isOpen(): boolean {
    return this.#breaker.isOpen;
  }

  /** What the last request failed with; empty if none has. */
  get lastFailure(): string {
    return this.#breaker.lastFailure;
  }

  /** @throws SpandrelError as {@link ObjectStore}; the reason of `signal` */
  async run<T>(op: DurableOp, signal: AbortSignal, request: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const passage = this.#breaker.enter(this.#now());
    if (passage === 'open') {
      this.#events.durable.responded(op, 'left_alone');
      throw new SpandrelError('UPSTREAM_UNREACHABLE', `object store: left alone: ${this.lastFailure}`);
    }
    try {
      const result = await request();
      this.#change(() => this.#breaker.succeed());
      return result;
    } catch (error) {
      if (signal.aborted) {
        this.#breaker.leave(passage);
        throw signal.reason;
      }
      throw this.failed(op, error).error;
    }
  }

  /** Counts the failure of a request, also one whose body broke off after {@link run}. */
  failed(op: DurableOp, error: unknown): S3Fault {
    const fault = explainS3Fault(error);
    this.#events.durable.failed(op, fault.outcome, fault.words);
    // A store that refuses one object responds.
    this.#change(() => {
      // Writes wait in a queue, which slows down by itself: clients go on reading.
      if (fault.outcome === 'throttled' && op !== 'get') this.#breaker.leave('probe');
      else if (fault.isOfStore) this.#breaker.fail(this.#now(), fault.words);
      else this.#breaker.succeed();
    });
    return fault;
  }

  #change(change: () => void): void {
    const wasOpen = this.#breaker.isOpen;
    change();
    const { isOpen } = this.#breaker;
    if (isOpen !== wasOpen) this.#events.durable.circuitChanged({ isOpen, why: this.lastFailure });
  }
}
