import { parentPort } from 'node:worker_threads';

import { SpandrelError } from '../core/errors.ts';
import type { Events } from '../telemetry/events.ts';
import type { ThreadKind, ThreadStep } from '../telemetry/metrics.ts';
import { decodeError, encodeError, type EncodedError } from './error-transfer.ts';

/** A worker thread that could not be started, or has died. Another takes its place after a pause. */
export interface ThreadFault {
  readonly thread: ThreadKind;
  readonly step: ThreadStep;
  /** WORKER_FAILED; its cause is what happened. */
  readonly error: SpandrelError;
}

/** A {@link ThreadFault} on its way to another thread. */
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

/** Count and log a fault. The pauses between faults bound what is logged. */
export function noteThreadFault(events: Events, { thread, step, error }: ThreadFault): void {
  events.threadFailed(thread, step, error);
}

/** In a thread of a {@link WorkerPool}: tell the pool of a fault of a thread that this one has started. */
export function reportThreadFault({ thread, step, error }: ThreadFault): void {
  const fault: EncodedThreadFault = { thread, step, error: encodeError(error) };
  parentPort?.postMessage(fault, []);
}

export function decodeThreadFault({ thread, step, error }: EncodedThreadFault): ThreadFault {
  return { thread, step, error: decodeError(error) };
}
