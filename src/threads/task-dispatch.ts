import { move, transferableSymbol, valueSymbol } from 'piscina';

import { encodeError, type EncodedError } from './error-transfer.ts';
import { TransferredResult } from './transferred-result.ts';

/** What a thread is sent. */
export interface TaskInput {
  /** URL of the module whose exports are the tasks. */
  readonly entry: string;
  readonly task: string;
  readonly input: unknown;
}

/** How a task has ended; errors travel as values. */
export type DispatchOutcome =
  { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: EncodedError };

/** Runs in the threads: loads the module before there is a task, so that a thread that cannot do so never gets one. */
export async function prepare(entry: string): Promise<DispatchOutcome> {
  try {
    await import(entry);
    return { ok: true, value: undefined };
  } catch (error) {
    return { ok: false, error: encodeError(error) };
  }
}

/** Runs in the threads: imports the entry module (once, Node keeps it) and calls the export that is named like the task. */
export async function dispatch({ entry, task, input }: TaskInput): Promise<unknown> {
  try {
    const module = (await import(entry)) as Readonly<Record<string, unknown>>;
    const run = module[task];
    if (typeof run !== 'function') throw new TypeError(`${entry} has no task ${task}`);
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
