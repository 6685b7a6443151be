import { Conditions } from '../conditions.ts';
import type {
  DurableDrop,
  DurableKind,
  DurableMetrics,
  DurableOp,
  DurableOutcome,
} from './durable-metrics.ts';
import type { Logger } from '../logger.ts';

/** Events of the durable tier. A part of `Events`. */
export class DurableEvents {
  readonly #logger: Logger;
  readonly #metrics: DurableMetrics;
  readonly #conditions: Conditions;

  constructor(logger: Logger, metrics: DurableMetrics) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.#conditions = new Conditions(logger);
  }

  /** What was wrong with the object store within the last minute, in words for an operator. */
  get conditions(): readonly string[] {
    return this.#conditions.current;
  }

  responded(op: DurableOp, outcome: 'ok' | 'absent' | 'exists' | 'left_alone'): void {
    this.#metrics.requests.inc({ op, outcome });
  }

  /** @param words what to do about it; neither names of objects nor signed URLs */
  failed(op: DurableOp, outcome: DurableOutcome, words: string): void {
    this.#metrics.requests.inc({ op, outcome });
    this.#conditions.note(outcome, `storage.s3: ${words}`, { op, outcome });
  }

  bytesRead(bytes: number): void {
    this.#metrics.bytes.inc({ direction: 'read' }, bytes);
  }

  bytesWritten(bytes: number): void {
    this.#metrics.bytes.inc({ direction: 'written' }, bytes);
  }

  queueChanged(kind: DurableKind, entries: number, bytes: number): void {
    this.#metrics.queued.set({ kind }, entries);
    this.#metrics.queuedBytes.set({ kind }, bytes);
  }

  dropped(
    kind: DurableKind,
    reason: DurableDrop,
    { entries = 1, cause }: { readonly entries?: number; readonly cause?: unknown } = {},
  ): void {
    this.#metrics.dropped.inc({ kind, reason }, entries);
    if (reason !== 'full' && reason !== 'refused') return;
    const text = `storage.s3: ${kind}s are not written: ${DROPS[reason]}`;
    this.#conditions.note(`${kind} ${reason}`, text, { kind, reason, err: cause });
  }

  /** An object does not match its digest or seal. */
  foundWrong(kind: DurableKind, name: string): void {
    this.#metrics.wrong.inc({ kind });
    this.#logger.warn({ kind, object: name }, 'an object of the bucket is damaged and not used');
  }

  circuitChanged(change: { readonly isOpen: boolean; readonly why?: string }): void {
    this.#metrics.leftAlone.set(change.isOpen ? 1 : 0);
    if (change.isOpen)
      this.#logger.warn(
        { cause: change.why },
        'the object store fails: the proxy leaves it alone and probes it from time to time',
      );
    else this.#logger.info('the object store responds again');
  }

  /** Uploads that processes have begun and not ended. */
  uploadsAborted(uploads: number): void {
    this.#logger.info({ uploads }, 'unfinished uploads of the bucket were aborted');
  }
}

const DROPS = {
  full: 'too many wait, as the store is slow or fails',
  refused: 'the store refuses them again and again',
} as const;
