import { constants, inflateRawSync } from 'node:zlib';

import { expect } from 'vitest';

import { isSpandrelError } from '../../src/core/errors.ts';
import type { Engine } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { type Recording, recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { gzipMember } from '../helpers/layers/gzip-corpus.ts';

/** The result of node:zlib for raw deflate data. */
type Judgement =
  | { readonly verdict: 'whole'; readonly output: Buffer; readonly compressedBytes: number }
  | { readonly verdict: 'cut' | 'damaged' };

const EMPTY_HEADER = gzipMember(new Uint8Array(0), new Uint8Array(0)).subarray(0, 10);

/**
 * Checks that both engines agree with node:zlib about raw deflate data, byte for byte, and stop at the same
 * places.
 * @returns the verdict: `whole` (bytes after the end are cut off), `cut`, or zlib's words for the damage
 */
export function expectAgreement(deflate: Uint8Array, chunkBytes: number, label: string): string {
  const judgement = judge(deflate);
  if (judgement.verdict === 'whole') {
    const member = gzipMember(deflate.subarray(0, judgement.compressedBytes), judgement.output);
    const recording = expectSameRecordings(member, chunkBytes, label);
    expect(recording.failure, label).toBeUndefined();
    expect(Buffer.compare(recording.output, judgement.output), label).toBe(0);
    return judgement.verdict;
  }
  const stream = Buffer.concat([EMPTY_HEADER, deflate]);
  const { failure, output } = expectSameRecordings(stream, chunkBytes, label);
  const problem = problemOf(failure);
  expect(problem === 'it is cut short' ? 'cut' : 'damaged', label).toBe(judgement.verdict);
  if (judgement.verdict === 'cut') {
    expect(Buffer.compare(output, inflatePart(deflate)), label).toBe(0);
    return judgement.verdict;
  }
  // Both find damage at the same byte. It may be up to two symbols before the damage.
  const found = indexOfDamage(wasmEngine, stream) - EMPTY_HEADER.length;
  const before = inflatePart(deflate.subarray(0, found));
  expect(Buffer.compare(output.subarray(0, before.length), before), label).toBe(0);
  expect(judge(deflate.subarray(0, found + 1)).verdict, label).toBe('damaged');
  return problem;
}

function judge(deflate: Uint8Array): Judgement {
  try {
    // The declarations ignore that `info` changes the result.
    const result: unknown = inflateRawSync(deflate, { info: true });
    const { buffer, engine } = result as { buffer: Buffer; engine: { bytesWritten: number } };
    return { verdict: 'whole', output: buffer, compressedBytes: engine.bytesWritten };
  } catch (error) {
    if (error instanceof Error && 'code' in error) {
      if (error.code === 'Z_BUF_ERROR') return { verdict: 'cut' };
      if (error.code === 'Z_DATA_ERROR') return { verdict: 'damaged' };
    }
    throw error;
  }
}

/** Output of data that may end anywhere. @throws if it is damaged */
function inflatePart(deflate: Uint8Array): Buffer {
  return inflateRawSync(deflate, { finishFlush: constants.Z_SYNC_FLUSH });
}

function expectSameRecordings(stream: Uint8Array, chunkBytes: number, label: string): Recording {
  const [wasm, pako] = [wasmEngine, pakoEngine].map((engine) =>
    recordInflation(engine, stream, 65_536, chunkBytes),
  );
  if (wasm === undefined || pako === undefined) throw new Error('two engines');
  expect(problemOf(wasm.failure), label).toBe(problemOf(pako.failure));
  expect(wasm.boundaries, label).toEqual(pako.boundaries);
  expect(Buffer.compare(wasm.output, pako.output), label).toBe(0);
  expect(wasm.checkpoints.length, label).toBe(pako.checkpoints.length);
  wasm.checkpoints.forEach(({ window }, index) => {
    expect(Buffer.compare(window, pako.checkpoints[index]?.window ?? new Uint8Array(0)), label).toBe(0);
  });
  return wasm;
}

/** The message of a failure without the place, which depends on the chunks of the input. */
export function problemOf(failure: unknown): string {
  if (failure === undefined) return '';
  if (!isSpandrelError(failure, 'LAYER_CORRUPT')) throw new Error('no verdict', { cause: failure });
  return failure.message.replace(/^.* compressed byte \d+: /, '');
}

function indexOfDamage(engine: Engine, stream: Uint8Array): number {
  const inflater = engine.createGzipInflater({ onOutput: () => undefined, onBoundary: () => undefined });
  for (let at = 0; at < stream.length; at++) {
    try {
      inflater.write(stream.subarray(at, at + 1));
    } catch {
      return at;
    }
  }
  throw new Error('no damage');
}
