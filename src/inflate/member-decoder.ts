import { combineCrc32 } from './combine-crc32.ts';
import { type GzipFraming, passGzipTrailer, readGzipHeader, readGzipTrailer } from './gzip-framing.ts';
import { damageOf, type InflateKernel } from './inflate-kernel.ts';
import { BLOCK_END, NEEDS_INPUT, STREAM_END } from './kernel/status.ts';

export interface MemberEvents {
  onOutput(bytes: Uint8Array, crc32: number): void;
  /** Called after a header, and after a block that is not its member's last. */
  onBoundary(): void;
}

type Stage = 'header' | 'blocks' | 'trailer' | 'end' | 'padding';

/** Decodes gzip members in sequence; a kernel decodes their deflate data. */
export class MemberDecoder {
  readonly #kernel: InflateKernel;
  readonly #events: MemberEvents;
  #stage: Stage;
  #framing: GzipFraming;
  #members = 0;
  /** Of the current member; unknown if decoding began within it. */
  #sum: { crc32: number; uncompressedLength: number } | undefined;
  #compressedOffset = 0;

  /**
   * @param start where the input begins: at a header, or within deflate data, for which `kernel` is prepared
   */
  constructor(kernel: InflateKernel, start: 'header' | 'blocks', events: MemberEvents) {
    this.#kernel = kernel;
    this.#events = events;
    this.#stage = start;
    this.#framing = start === 'header' ? started(readGzipHeader()) : started(passGzipTrailer());
  }

  /** Bytes of input read so far. */
  get compressedOffset(): number {
    return this.#compressedOffset;
  }

  /** Complete members so far. */
  get members(): number {
    return this.#members;
  }

  get stage(): Stage {
    return this.#stage;
  }

  /**
   * Decodes the next input.
   * @returns what is wrong with it, in zlib's words; `undefined` if nothing
   */
  take(compressed: Uint8Array): string | undefined {
    const { inputCapacity } = this.#kernel;
    for (let from = 0; from < compressed.length; from += inputCapacity) {
      const problem = this.#takePiece(compressed.subarray(from, from + inputCapacity));
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #takePiece(piece: Uint8Array): string | undefined {
    const pieceStart = this.#compressedOffset;
    this.#kernel.setInput(piece);
    for (;;) {
      const at = this.#compressedOffset - pieceStart;
      if (this.#stage === 'blocks') {
        const status = this.#kernel.decode(at);
        this.#compressedOffset = pieceStart + this.#kernel.position;
        this.#deliver();
        const problem = damageOf(status);
        if (problem !== undefined) return problem;
        if (status === NEEDS_INPUT) return undefined;
        if (status === BLOCK_END) this.#events.onBoundary();
        else if (status === STREAM_END) this.#beginTrailer();
      } else {
        const byte = piece[at];
        if (byte === undefined) return undefined;
        const problem = this.#takeFramingByte(byte);
        if (problem !== undefined) return problem;
      }
    }
  }

  #deliver(): void {
    const { output, outputCrc32 } = this.#kernel;
    if (output.length === 0) return;
    if (this.#sum !== undefined) {
      this.#sum.crc32 = combineCrc32(this.#sum.crc32, outputCrc32, output.length);
      this.#sum.uncompressedLength += output.length;
    }
    this.#events.onOutput(output, outputCrc32);
  }

  #takeFramingByte(byte: number): string | undefined {
    if (this.#stage === 'padding' || (this.#stage === 'end' && byte === 0)) {
      this.#stage = 'padding';
      this.#compressedOffset++;
      return byte === 0 ? undefined : 'incorrect header check';
    }
    if (this.#stage === 'end') {
      this.#framing = started(readGzipHeader());
      this.#stage = 'header';
    }
    this.#compressedOffset++;
    const { done, value } = this.#framing.next(byte);
    if (!done || value !== undefined) return value;
    if (this.#stage === 'header') this.#beginBlocks();
    else this.#endMember();
    return undefined;
  }

  #beginBlocks(): void {
    this.#kernel.begin();
    this.#sum = { crc32: 0, uncompressedLength: 0 };
    this.#stage = 'blocks';
    this.#events.onBoundary();
  }

  #beginTrailer(): void {
    if (this.#sum !== undefined) {
      this.#framing = started(readGzipTrailer(this.#sum.crc32, this.#sum.uncompressedLength));
    }
    this.#stage = 'trailer';
  }

  #endMember(): void {
    this.#members++;
    this.#stage = 'end';
  }
}

function started(framing: GzipFraming): GzipFraming {
  framing.next(0);
  return framing;
}
