import { threadId } from 'node:worker_threads';

import { SpandrelError } from '../../src/core/errors.ts';
import { TransferredResult } from '../../src/threads/transferred-result.ts';

export function double(input: number): number {
  return input * 2;
}

export function echo(input: unknown): unknown {
  return input;
}

export async function thread(): Promise<number> {
  return Promise.resolve(threadId);
}

export function makeBytes(input: { lengthBytes: number; value: number }): TransferredResult<Uint8Array> {
  const bytes = new Uint8Array(input.lengthBytes).fill(input.value);
  return new TransferredResult(bytes, [bytes.buffer]);
}

export function byteLength(input: Uint8Array): number {
  return input.byteLength;
}

export function failKnown(): never {
  const cause = Object.assign(new TypeError('deep down'), { code: 'ENOENT' });
  throw new SpandrelError('LAYER_CORRUPT', 'bad layer', { cause, detail: { compressedOffset: 7 } });
}

export function failWithOddDetail(): never {
  throw new SpandrelError('LAYER_CORRUPT', 'bad layer', { detail: { notCloneable: () => undefined } });
}

export function failUnknown(): never {
  throw new RangeError('a defect');
}

export function exit(): void {
  process.exit(3);
}

/** Never resolves: an error that no task can catch ends the thread. */
export function throwLater(): Promise<never> {
  setImmediate(() => {
    throw new Error('nobody catches this');
  });
  return new Promise(() => undefined);
}

export function rejectUnheard(): Promise<never> {
  void Promise.reject(new Error('nobody hears this'));
  return new Promise(() => undefined);
}

export function returnWhatCannotBeSent(): unknown {
  return () => undefined;
}

export function transferTwice(): TransferredResult<Uint8Array> {
  const bytes = new Uint8Array(4);
  return new TransferredResult(bytes, [bytes.buffer, bytes.buffer]);
}

export function useUpMemory(): never {
  const kept: string[][] = [];
  for (;;) kept.push(Array.from({ length: 1000 }, (_, place) => `${kept.length} ${place}`));
}

/** Counts itself in cell 0, then lets the thread do other things until cell 1 is 1. */
export async function linger(state: Int32Array<SharedArrayBuffer>): Promise<number> {
  Atomics.add(state, 0, 1);
  Atomics.notify(state, 0);
  const wait = Atomics.waitAsync(state, 1, 0);
  if (wait.async) await wait.value;
  return threadId;
}

/** Says in `state[0]` that it has begun, and ends when `state[1]` is set. */
export function block(state: Int32Array<SharedArrayBuffer>): string {
  Atomics.add(state, 0, 1);
  Atomics.notify(state, 0);
  Atomics.wait(state, 1, 0);
  return 'released';
}
