import { move } from 'piscina';

import { encodeError, type EncodedError } from './error-transfer.ts';

/** What a {@link WorkerPool} sends to its threads. */
export interface DispatchInput {
  /** URL of the module whose exports are the tasks. */
  readonly entry: string;
  readonly task: string;
  readonly input: unknown;
}

/** How a task has ended; errors travel as values. */
export type DispatchOutcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: EncodedError };

/** Runs in the threads: imports the entry module (once, Node keeps it) and calls the export that is named like the task. */
export async function dispatch(message: DispatchInput): Promise<DispatchOutcome> {
  try {
    const module = (await import(message.entry)) as Readonly<Record<string, unknown>>;
    const task = module[message.task];
    if (typeof task !== 'function') throw new TypeError(`${message.entry} has no task ${message.task}`);
    const result: unknown = await (task as (input: unknown) => unknown)(message.input);
    if (!(result instanceof TransferredResult)) return { ok: true, value: result };
    const outcome: DispatchOutcome = { ok: true, value: result.value };
    return movable(outcome, result.transfer);
  } catch (error) {
    return { ok: false, error: encodeError(error) };
  }
}

/** A task's result whose `transfer` buffers change hands instead of being copied; the thread cannot use them afterwards. */
export class TransferredResult<T> {
  readonly value: T;
  readonly transfer: readonly ArrayBuffer[];

  constructor(value: T, transfer: readonly ArrayBuffer[]) {
    this.value = value;
    this.transfer = transfer;
  }
}
