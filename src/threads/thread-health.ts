import type { Logger } from '../telemetry/logger.ts';
import { type Metrics, THREAD_KINDS, THREAD_STEPS } from '../telemetry/metrics.ts';
import type { ThreadFault } from './thread-fault.ts';

/** Counts and logs the worker threads that die or do not start. The pauses between them bound what is logged. */
export class ThreadHealth {
  readonly #metrics: Metrics;
  readonly #logger: Logger;

  constructor({ metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger }) {
    this.#metrics = metrics;
    this.#logger = logger;
    // An alert sees the first increase only of what has been there before.
    for (const thread of THREAD_KINDS)
      for (const step of THREAD_STEPS) metrics.threadFailures.inc({ thread, step }, 0);
  }

  note({ thread, step, error }: ThreadFault): void {
    this.#metrics.threadFailures.inc({ thread, step });
    this.#logger.warn({ thread, step, err: error }, error.message);
  }
}
