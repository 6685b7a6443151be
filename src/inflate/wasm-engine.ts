import { crc32 } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { combineCrc32 } from './combine-crc32.ts';
import type { Engine, GzipInflater, InflateEvents, SpanInput } from './engine.ts';
import { compileKernel, InflateKernel, type KernelModule } from './inflate-kernel.ts';
import { MemberDecoder } from './member-decoder.ts';
import { checkSpanInput, checkSpanSum } from './span-stream.ts';

/**
 * DEFLATE in WebAssembly. Each inflater has its own instance; all spans share one. Compiles the kernel on
 * first use.
 * @throws SpandrelError INTERNAL if there is no kernel to compile, WORKER_FAILED if WebAssembly cannot be
 * used
 */
class WasmEngine implements Engine {
  readonly name = 'wasm';
  #module: KernelModule | undefined;
  #spanKernel: InflateKernel | undefined;

  createGzipInflater(events: InflateEvents): GzipInflater {
    return new WasmGzipInflater(this.#createKernel(), events);
  }

  inflateSpan(input: SpanInput): Uint8Array<ArrayBuffer> {
    if (input.uncompressedLength === 0) return new Uint8Array(0);
    checkSpanInput(input);
    this.#spanKernel ??= this.#createKernel();
    return decodeSpan(this.#spanKernel, input);
  }

  #createKernel(): InflateKernel {
    try {
      this.#module ??= compileKernel();
      return new InflateKernel(this.#module);
    } catch (error) {
      if (error instanceof SpandrelError) throw error;
      // The process could use it when it started, so its address space is full.
      throw new SpandrelError(
        'WORKER_FAILED',
        'WebAssembly cannot be used; `inflate.engine: pako` needs none',
        { cause: error },
      );
    }
  }
}

/** Several times as fast as pako, with the same boundaries. */
export const wasmEngine: Engine = new WasmEngine();

class WasmGzipInflater implements GzipInflater {
  readonly #events: InflateEvents;
  readonly #kernel: InflateKernel;
  readonly #decoder: MemberDecoder;
  #uncompressedOffset = 0;
  #failure: SpandrelError | undefined;

  constructor(kernel: InflateKernel, events: InflateEvents) {
    this.#events = events;
    this.#kernel = kernel;
    this.#decoder = new MemberDecoder(kernel, 'header', {
      onOutput: (bytes, crc32) => {
        this.#uncompressedOffset += bytes.length;
        events.onOutput(bytes, crc32);
      },
      onBoundary: () => this.#announce(),
    });
  }

  write(compressed: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    const problem = this.#decoder.take(compressed);
    if (problem !== undefined) throw this.#fail(this.#describe(problem));
  }

  finish(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#decoder.stage !== 'end' && !this.hasPadding) throw this.#fail('it is cut short');
  }

  get compressedOffset(): number {
    return this.#decoder.compressedOffset;
  }

  beginSpan(): void {
    this.#kernel.beginSpan();
  }

  copyUsedWindow(target: Uint8Array): boolean {
    return this.#kernel.copyUsedWindow(target);
  }

  get hasPadding(): boolean {
    return this.#decoder.stage === 'padding';
  }

  #announce(): void {
    const checkpoint = {
      compressedOffset: this.#decoder.compressedOffset,
      bits: this.#kernel.leftoverBits,
      uncompressedOffset: this.#uncompressedOffset,
    };
    this.#events.onBoundary(checkpoint, (target) => this.#kernel.copyWindow(target));
  }

  #describe(problem: string): string {
    const { stage, members } = this.#decoder;
    if (stage !== 'header' && stage !== 'padding') return problem;
    return members === 0 ? `no gzip header, ${problem}` : `no gzip member after the last one, ${problem}`;
  }

  #fail(problem: string): SpandrelError {
    const { compressedOffset } = this;
    const detail = { compressedOffset, uncompressedOffset: this.#uncompressedOffset };
    const message = `the gzip stream is damaged at compressed byte ${compressedOffset}: ${problem}`;
    this.#failure = new SpandrelError('LAYER_CORRUPT', message, { detail });
    return this.#failure;
  }
}

function decodeSpan(kernel: InflateKernel, input: SpanInput): Uint8Array<ArrayBuffer> {
  const { compressed, bits, window, uncompressedLength } = input;
  const span = new Uint8Array(uncompressedLength);
  let have = 0;
  let sum = 0;
  const decoder = new MemberDecoder(kernel, 'blocks', {
    onOutput(bytes, bytesSum) {
      const wanted = bytes.subarray(0, uncompressedLength - have);
      span.set(wanted, have);
      const wantedSum = wanted.length === bytes.length ? bytesSum : crc32(wanted);
      sum = combineCrc32(sum, wantedSum, wanted.length);
      have += wanted.length;
    },
    onBoundary: () => undefined,
  });
  kernel.resume((compressed[0] ?? 0) >> (8 - bits), bits, window);
  let problem: string | undefined;
  // Piece by piece, so that bytes after the span are neither decoded nor checked.
  for (let at = bits === 0 ? 0 : 1; at < compressed.length && have < uncompressedLength;) {
    const piece = compressed.subarray(at, at + kernel.inputCapacity);
    problem = decoder.take(piece);
    if (problem !== undefined) break;
    at += piece.length;
  }
  if (have === uncompressedLength) {
    checkSpanSum(input, sum);
    return span;
  }
  const place = `at byte ${have} of ${uncompressedLength}`;
  throw new SpandrelError('SPAN_CORRUPT', `the span is damaged ${place}: ${problem ?? 'it is cut short'}`);
}
