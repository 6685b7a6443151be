import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { SpandrelError } from '../core/errors.ts';
import { WINDOW_BYTES } from './engine.ts';
import * as status from './kernel/status.ts';

/** The same file for `src/` and for `dist/`; `scripts/build.mjs` makes it of `src/inflate/kernel/`. */
const KERNEL_FILE = new URL('../../dist/kernel/inflate.wasm', import.meta.url);

/** What is wrong when {@link InflateKernel.decode} gives one of these, in zlib's words. */
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

// Node's declarations leave this to those of a browser.
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
 * Compile the kernel. Cheap when another thread has done it: V8 keeps the code once for all of them.
 * @throws SpandrelError INTERNAL if it has not been built, WORKER_FAILED if it cannot be read at the moment
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

/** An instance of the WebAssembly DEFLATE decoder (`kernel/decode.ts`) with its memory of less than half a MiB. */
export class InflateKernel {
  readonly #exports: KernelExports;
  readonly #memory: Uint8Array<ArrayBuffer>;
  readonly #inputAddress: number;
  readonly inputCapacity: number;
  #inputEnd = 0;

  constructor(module: KernelModule) {
    this.#exports = new WebAssembly.Instance(module).exports as KernelExports;
    // The memory never grows, so that this view stays good.
    this.#memory = new Uint8Array(this.#exports.memory.buffer);
    this.#inputAddress = this.#exports.inputAddress();
    this.inputCapacity = this.#exports.inputCapacity();
  }

  /** Forget all output; then as {@link begin}, with `window` as the output before. */
  resume(bits: number, bitCount: number, window: Uint8Array): void {
    this.#exports.reset();
    const last = window.subarray(-WINDOW_BYTES);
    this.#memory.set(last, this.#exports.outputEnd() - last.length);
    this.#exports.begin(bits, bitCount, last.length);
  }

  /** A deflate stream begins that refers to no output before it. */
  begin(): void {
    this.#exports.begin(0, 0, 0);
  }

  /** Copy at most `inputCapacity` bytes, which {@link decode} then works on. */
  setInput(compressed: Uint8Array): void {
    this.#memory.set(compressed, this.#inputAddress);
    this.#inputEnd = this.#inputAddress + compressed.length;
  }

  /** Decode the input from the place `start` on until something stops it: `kernel/status.ts`. */
  decode(start: number): number {
    return this.#exports.decode(this.#inputAddress + start, this.#inputEnd);
  }

  /** The place of the first byte of input that has not been touched. */
  get position(): number {
    return this.#exports.inputPosition() - this.#inputAddress;
  }

  /** How many high bits of the byte before `position` have not been consumed; 0 to 7 behind a block. */
  get leftoverBits(): number {
    return this.#exports.leftoverBits();
  }

  /** What the last call of {@link decode} has put out; valid until the next. */
  get output(): Uint8Array<ArrayBuffer> {
    return this.#memory.subarray(this.#exports.outputBegin(), this.#exports.outputEnd());
  }

  /** CRC-32 of `output`. */
  get outputCrc32(): number {
    return this.#exports.outputCrc32() >>> 0;
  }

  /** Write the last 32 KiB of output into `target`, zeros in front while there are fewer. */
  copyWindow(target: Uint8Array): void {
    const end = this.#exports.outputEnd();
    target.set(this.#memory.subarray(end - WINDOW_BYTES, end));
  }

  /** Note from here on what is referred to before this place. */
  beginSpan(): void {
    this.#exports.beginSpan();
  }

  /** Write the window before the place of {@link beginSpan} into `target`, zeros but for what has been referred to; false if nothing has. */
  copyUsedWindow(target: Uint8Array): boolean {
    const address = this.#exports.usedWindow();
    if (address === 0) return false;
    target.set(this.#memory.subarray(address, address + WINDOW_BYTES));
    return true;
  }
}

/** What is wrong, in zlib's words, if `stop` says so. */
export function damageOf(stop: number): string | undefined {
  return DAMAGE[stop];
}
