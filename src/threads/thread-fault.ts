import { parentPort } from 'node:worker_threads';

import { SpandrelError } from '../core/errors.ts';
import type { Events } from '../telemetry/events.ts';
import type { ThreadKind, ThreadStep } from '../telemetry/metrics.ts';
import { decodeError, encodeError, type EncodedError } from './encoded-error.ts';

/** A worker thread that did not start, or that died. Another one replaces it after a pause. */
export interface ThreadFault {
  readonly thread: ThreadKind;
  readonly step: ThreadStep;
  /** WORKER_FAILED with its cause. */
  readonly error: SpandrelError;
}

/** A {@link ThreadFault} in a message between threads. */
export interface EncodedThreadFault {
  readonly thread: ThreadKind;
  readonly step: ThreadStep;
  readonly error: EncodedError;
}

export function threadFault(thread: ThreadKind, step: ThreadStep, cause: unknown): ThreadFault {
  const what = step === 'start' ? 'could not be started' : 'has died';
  const error = new SpandrelError('WORKER_FAILED', `a worker thread (${thread}) ${what}`, { cause });
  return { thread, step, error };
}

/** Counts and logs a fault. The pauses between faults bound the log. */
export function noteThreadFault(events: Events, { thread, step, error }: ThreadFault): void {
  events.threadFailed(thread, step, error);
}

/** In a thread of a `WorkerPool`: reports a fault of a thread that it has started to the pool. */
export function reportThreadFault({ thread, step, error }: ThreadFault): void {
  const fault: EncodedThreadFault = { thread, step, error: encodeError(error) };
  parentPort?.postMessage(fault, []);
}

export function decodeThreadFault({ thread, step, error }: EncodedThreadFault): ThreadFault {
  return { thread, step, error: decodeError(error) };
}
