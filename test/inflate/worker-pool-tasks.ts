import { threadId } from 'node:worker_threads';

import { SpandrelError } from '../../src/core/errors.ts';
import { TransferredResult } from '../../src/inflate/transferred-result.ts';

export function double(input: number): number {
  return input * 2;
}

export async function thread(): Promise<number> {
  return Promise.resolve(threadId);
}

export function fill(input: { lengthBytes: number; value: number }): TransferredResult<Uint8Array> {
  const bytes = new Uint8Array(input.lengthBytes).fill(input.value);
  return new TransferredResult(bytes, [bytes.buffer]);
}

export function byteLength(input: Uint8Array): number {
  return input.byteLength;
}

export function failKnown(): never {
  const cause = new TypeError('deep down');
  throw new SpandrelError('LAYER_CORRUPT', 'bad layer', { cause, detail: { compressedOffset: 7 } });
}

export function failWithOddDetail(): never {
  throw new SpandrelError('LAYER_CORRUPT', 'bad layer', { detail: { notCloneable: () => undefined } });
}

export function failUnknown(): never {
  throw new RangeError('a defect');
}

export function crash(): void {
  process.exit(3);
}

/** Says in `state[0]` that it has begun, and ends when `state[1]` is set. */
export function block(state: Int32Array<SharedArrayBuffer>): string {
  Atomics.add(state, 0, 1);
  Atomics.notify(state, 0);
  Atomics.wait(state, 1, 0);
  return 'released';
}
