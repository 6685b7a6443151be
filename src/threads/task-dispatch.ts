import { move, transferableSymbol, valueSymbol } from 'piscina';

import { encodeError, type EncodedError } from './error-transfer.ts';
import { TransferredResult } from './transferred-result.ts';

/** One call of a task. */
export interface TaskInput {
  /** Name of an export of the module of the tasks. */
  readonly task: string;
  readonly input: unknown;
}

/** How a task ended; errors travel as values. */
export type DispatchOutcome =
  { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: EncodedError };

/** The module of the tasks. */
let tasks: Readonly<Record<string, unknown>> = {};

/** Runs in the thread, first: loads the module at the URL `entry`. A thread that cannot do so gets no task. */
export async function prepare(entry: string): Promise<DispatchOutcome> {
  try {
    tasks = (await import(entry)) as typeof tasks;
    return { ok: true, value: undefined };
  } catch (error) {
    return { ok: false, error: encodeError(error) };
  }
}

/** Runs in the thread: calls the task. Importing the module for each call would cost more than many tasks do. */
export async function dispatch({ task, input }: TaskInput): Promise<unknown> {
  try {
    const run = tasks[task];
    if (typeof run !== 'function') throw new TypeError(`there is no task ${task}`);
    const result: unknown = await (run as (input: unknown) => unknown)(input);
    if (!(result instanceof TransferredResult)) return { ok: true, value: result } satisfies DispatchOutcome;
    return move({
      [transferableSymbol]: result.transfer,
      [valueSymbol]: { ok: true, value: result.value } satisfies DispatchOutcome,
    });
  } catch (error) {
    return { ok: false, error: encodeError(error) } satisfies DispatchOutcome;
  }
}
