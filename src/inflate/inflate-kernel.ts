import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { SpandrelError } from '../core/errors.ts';
import { WINDOW_BYTES } from './engine.ts';
import * as status from './kernel/status.ts';

/**
 * `scripts/build.mjs` compiles it from `src/inflate/kernel/`. Code in `src/` and in `dist/` uses the same
 * file.
 */
const KERNEL_FILE = new URL('../../dist/kernel/inflate.wasm', import.meta.url);

/** What each status of {@link InflateKernel.decode} means, in zlib's words. */
const DAMAGE: Readonly<Record<number, string>> = {
  [status.BAD_BLOCK_TYPE]: 'invalid block type',
  [status.BAD_STORED_LENGTHS]: 'invalid stored block lengths',
  [status.TOO_MANY_SYMBOLS]: 'too many length or distance symbols',
  [status.BAD_CODE_LENGTHS_SET]: 'invalid code lengths set',
  [status.BAD_REPEAT]: 'invalid bit length repeat',
  [status.NO_END_OF_BLOCK]: 'invalid code -- missing end-of-block',
  [status.BAD_LITLEN_SET]: 'invalid literal/lengths set',
  [status.BAD_DISTANCES_SET]: 'invalid distances set',
  [status.BAD_LITLEN_CODE]: 'invalid literal/length code',
  [status.BAD_DISTANCE_CODE]: 'invalid distance code',
  [status.DISTANCE_TOO_FAR]: 'invalid distance too far back',
};

/** Compiled code without memory. */
export interface KernelModule {
  readonly [Symbol.toStringTag]: 'WebAssembly.Module';
}

// Node's declarations lack this; those of browsers have it.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => KernelModule;
  readonly Instance: new (module: KernelModule) => { readonly exports: unknown };
};

interface KernelExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  inputAddress(): number;
  inputCapacity(): number;
  inputPosition(): number;
  leftoverBits(): number;
  outputBegin(): number;
  outputEnd(): number;
  outputCrc32(): number;
  reset(): void;
  beginSpan(): void;
  usedWindow(): number;
  begin(bits: number, count: number, windowBytes: number): void;
  decode(start: number, end: number): number;
}

/**
 * Compiles the kernel. Cheap if another thread has compiled it: V8 shares the code.
 * @throws SpandrelError INTERNAL if it was not built, WORKER_FAILED if it cannot be read; errors of
 * WebAssembly
 */
export function compileKernel(): KernelModule {
  if (!existsSync(KERNEL_FILE)) {
    const path = fileURLToPath(KERNEL_FILE);
    throw new SpandrelError(
      'INTERNAL',
      `the WebAssembly kernel is missing (${path}); npm run build makes it`,
    );
  }
  return new WebAssembly.Module(readKernel());
}

function readKernel(): Buffer {
  try {
    return readFileSync(KERNEL_FILE);
  } catch (error) {
    throw new SpandrelError('WORKER_FAILED', 'the WebAssembly kernel cannot be read', { cause: error });
  }
}

/**
 * An instance of the WebAssembly DEFLATE decoder (`kernel/decode.ts`). Its memory is less than half a MiB.
 */
export class InflateKernel {
  readonly #exports: KernelExports;
  readonly #memory: Uint8Array<ArrayBuffer>;
  readonly #inputAddress: number;
  readonly inputCapacity: number;
  #inputEnd = 0;

  constructor(module: KernelModule) {
    this.#exports = new WebAssembly.Instance(module).exports as KernelExports;
    // The memory never grows, so this view stays valid.
    this.#memory = new Uint8Array(this.#exports.memory.buffer);
    this.#inputAddress = this.#exports.inputAddress();
    this.inputCapacity = this.#exports.inputCapacity();
  }

  /** Discards all output, then starts as {@link begin} does, with `window` as the preceding output. */
  resume(bits: number, bitCount: number, window: Uint8Array): void {
    this.#exports.reset();
    const last = window.subarray(-WINDOW_BYTES);
    this.#memory.set(last, this.#exports.outputEnd() - last.length);
    this.#exports.begin(bits, bitCount, last.length);
  }

  /** Starts a deflate stream that refers to no earlier output. */
  begin(): void {
    this.#exports.begin(0, 0, 0);
  }

  /** Copies at most `inputCapacity` bytes as input for {@link decode}. */
  setInput(compressed: Uint8Array): void {
    this.#memory.set(compressed, this.#inputAddress);
    this.#inputEnd = this.#inputAddress + compressed.length;
  }

  /** Decodes the input from offset `start`. @returns why it stopped: see `kernel/status.ts` */
  decode(start: number): number {
    return this.#exports.decode(this.#inputAddress + start, this.#inputEnd);
  }

  /** Offset of the first unread byte of input. */
  get position(): number {
    return this.#exports.inputPosition() - this.#inputAddress;
  }

  /** How many high bits of the byte before `position` are not consumed; 0 to 7 after a block. */
  get leftoverBits(): number {
    return this.#exports.leftoverBits();
  }

  /** Output of the last call of {@link decode}, valid until the next one. */
  get output(): Uint8Array<ArrayBuffer> {
    return this.#memory.subarray(this.#exports.outputBegin(), this.#exports.outputEnd());
  }

  /** CRC-32 of `output`. */
  get outputCrc32(): number {
    return this.#exports.outputCrc32() >>> 0;
  }

  /** Writes the last 32 KiB of output to `target`, preceded by zeros if there are fewer. */
  copyWindow(target: Uint8Array): void {
    const end = this.#exports.outputEnd();
    target.set(this.#memory.subarray(end - WINDOW_BYTES, end));
  }

  /** Tracks from here which bytes before this place the output refers to. */
  beginSpan(): void {
    this.#exports.beginSpan();
  }

  /**
   * Writes the window before the place of {@link beginSpan} to `target`, with zeros for bytes that the output
   * does not refer to.
   * @returns false if it refers to none
   */
  copyUsedWindow(target: Uint8Array): boolean {
    const address = this.#exports.usedWindow();
    if (address === 0) return false;
    target.set(this.#memory.subarray(address, address + WINDOW_BYTES));
    return true;
  }
}

/** The damage that the status `stop` stands for, in zlib's words. */
export function damageOf(stop: number): string | undefined {
  return DAMAGE[stop];
}
