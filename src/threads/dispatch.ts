import { move, transferableSymbol, valueSymbol } from 'piscina';

import { encodeError, type EncodedError } from './encoded-error.ts';
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

/** Exports of the module of the tasks. */
let tasks: Readonly<Record<string, unknown>> = {};

/** Runs first in a thread: loads the module at the URL `entry`. A thread that cannot load it gets no task. */
export async function prepare(entry: string): Promise<DispatchOutcome> {
  try {
    tasks = (await import(entry)) as typeof tasks;
    return { ok: true, value: undefined };
  } catch (error) {
    return { ok: false, error: encodeError(error) };
  }
}

/** Runs in a thread: calls the task. An import for each call would cost more than many tasks. */
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
