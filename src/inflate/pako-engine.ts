import { crc32 } from 'node:zlib';

import {
  Z_BLOCK,
  Z_BUF_ERROR,
  type Z_CallStatus,
  Z_NO_FLUSH,
  Z_OK,
  Z_STREAM_END,
  ZStream,
  zlibInflate,
  zlibInflateInit2,
  zlibInflateReset2,
  zlibInflateSetDictionary,
} from 'pako';

import { SpandrelError } from '../core/errors.ts';
import type { Engine, GzipInflater, InflateEvents, SpanInput } from './engine.ts';
import { WINDOW_BYTES } from './engine.ts';
import { GZIP_TRAILER_BYTES } from './inflate-span-natively.ts';
import { inflateSpanWith, type SpanStream } from './span-stream.ts';

/** zlib's `windowBits`: gzip with the largest window, and raw deflate with it. */
const GZIP_WINDOW_BITS = 31;
const RAW_WINDOW_BITS = -15;

/** Ring buffer of the output; much larger than the window, so that zlib is seldom interrupted. */
const RING_BYTES = 8 * WINDOW_BYTES;

// `data_type` after a call with Z_BLOCK (zlib.h, inflate): the lowest bits count the unread bits of the last
// byte.
const AT_BOUNDARY = 128;
const IN_LAST_BLOCK = 64;
const UNREAD_BITS = 7;

/**
 * zlib in JavaScript: slow, but its `Z_BLOCK` shows block boundaries exactly where the C library shows them.
 */
export const pakoEngine: Engine = {
  name: 'pako',
  createGzipInflater: (events: InflateEvents): GzipInflater => new PakoGzipInflater(events),
  inflateSpan: (input: SpanInput): Uint8Array<ArrayBuffer> => inflateSpanWith(input, resumeSpan),
};

/**
 * The loop of soci-snapshotter's `generate_zinfo_from_fp` (`ztoc/compression/gzip_zinfo.c`), but for input in
 * pieces of any size. It refuses a zlib wrapper; in soci-snapshotter Go's gzip reader does so.
 */
class PakoGzipInflater implements GzipInflater {
  readonly #events: InflateEvents;
  readonly #stream = openStream(GZIP_WINDOW_BITS);
  readonly #ring = new Uint8Array(RING_BYTES);
  // zlib's own totals restart with each member.
  #compressedOffset = 0;
  #uncompressedOffset = 0;
  #members = 0;
  #position: 'header' | 'blocks' | 'end' | 'padding' = 'header';
  #failure: SpandrelError | undefined;
  #spanWindow: Uint8Array | undefined;

  constructor(events: InflateEvents) {
    this.#events = events;
    this.#stream.output = this.#ring;
    this.#stream.avail_out = RING_BYTES;
  }

  write(compressed: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    giveInput(this.#stream, compressed);
    while (this.#stream.avail_in > 0) this.#step();
    giveInput(this.#stream, new Uint8Array(0));
  }

  finish(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#position !== 'end' && !this.hasPadding) throw this.#fail('it is cut short');
  }

  get compressedOffset(): number {
    return this.#compressedOffset;
  }

  beginSpan(): void {
    this.#spanWindow = undefined;
    if (this.#uncompressedOffset === 0) return;
    this.#spanWindow = new Uint8Array(WINDOW_BYTES);
    this.#copyWindow(this.#spanWindow);
  }

  /** Writes the whole window: zlib does not show which bytes the output refers to. */
  copyUsedWindow(target: Uint8Array): boolean {
    if (this.#spanWindow === undefined) return false;
    target.set(this.#spanWindow);
    return true;
  }

  get hasPadding(): boolean {
    return this.#position === 'padding';
  }

  #step(): void {
    const stream = this.#stream;
    if (this.#position === 'padding' || (this.#position === 'end' && stream.input[stream.next_in] === 0)) {
      this.#passPadding();
      return;
    }
    if (this.#position === 'end') {
      zlibInflateReset2(stream, GZIP_WINDOW_BITS);
      this.#position = 'header';
    }
    if (stream.avail_out === 0) {
      stream.next_out = 0;
      stream.avail_out = RING_BYTES;
    }
    const { avail_in: availableBefore, next_out: outputStart } = stream;
    const status = zlibInflate(stream, Z_BLOCK);
    this.#compressedOffset += availableBefore - stream.avail_in;
    this.#deliver(outputStart, stream.next_out);

    if (status === Z_STREAM_END) {
      this.#position = 'end';
      this.#members++;
    } else if (status !== Z_OK && status !== Z_BUF_ERROR) {
      throw this.#fail(this.#describe(status));
    } else if (stream.data_type & AT_BOUNDARY) {
      this.#position = 'blocks';
      if (!(stream.data_type & IN_LAST_BLOCK)) this.#announce(stream.data_type & UNREAD_BITS);
    }
  }

  #passPadding(): void {
    const stream = this.#stream;
    this.#position = 'padding';
    const end = stream.next_in + stream.avail_in;
    const stop = stream.input.subarray(stream.next_in, end).findIndex((byte) => byte !== 0);
    this.#compressedOffset += stop === -1 ? stream.avail_in : stop + 1;
    if (stop !== -1) throw this.#fail('no gzip member after the last one, incorrect header check');
    stream.avail_in = 0;
  }

  #deliver(start: number, end: number): void {
    if (start === end) return;
    this.#uncompressedOffset += end - start;
    const output = this.#ring.subarray(start, end);
    this.#events.onOutput(output, crc32(output));
  }

  #announce(bits: number): void {
    const checkpoint = {
      compressedOffset: this.#compressedOffset,
      bits,
      uncompressedOffset: this.#uncompressedOffset,
    };
    this.#events.onBoundary(checkpoint, (target) => this.#copyWindow(target));
  }

  #copyWindow(target: Uint8Array): void {
    const end = this.#stream.next_out;
    const fromEnd = Math.max(0, WINDOW_BYTES - end);
    // Until the ring is full once, its end still holds the zeros that precede the output.
    target.set(this.#ring.subarray(RING_BYTES - fromEnd));
    target.set(this.#ring.subarray(end - (WINDOW_BYTES - fromEnd), end), fromEnd);
  }

  #describe(status: Z_CallStatus): string {
    const reason = zlibReason(this.#stream, status);
    if (this.#position === 'blocks') return reason;
    return this.#members === 0 ? `no gzip header, ${reason}` : `no gzip member after the last one, ${reason}`;
  }

  #fail(problem: string): SpandrelError {
    const detail = {
      compressedOffset: this.#compressedOffset,
      uncompressedOffset: this.#uncompressedOffset,
    };
    const place = `at compressed byte ${detail.compressedOffset}`;
    this.#failure = new SpandrelError('LAYER_CORRUPT', `the gzip stream is damaged ${place}: ${problem}`, {
      detail,
    });
    return this.#failure;
  }
}

/** As soci-snapshotter's `extract_data_from_buffer`, from the checkpoint to the end of the span. */
function resumeSpan({ deflate, window, uncompressedLength }: SpanStream): Uint8Array<ArrayBuffer> {
  const output = new Uint8Array(uncompressedLength);
  const stream = openStream(RAW_WINDOW_BITS);
  if (window.length > 0) zlibInflateSetDictionary(stream, window);
  giveInput(stream, deflate);
  stream.output = output;
  stream.avail_out = uncompressedLength;

  let raw = true;
  while (stream.avail_out > 0) {
    if (stream.avail_in === 0) throw corruptSpan(stream, uncompressedLength, 'it is cut short');
    const status = zlibInflate(stream, Z_NO_FLUSH);
    if (status === Z_STREAM_END) {
      if (raw) skipTrailer(stream);
      raw = false;
      zlibInflateReset2(stream, GZIP_WINDOW_BITS);
    } else if (status !== Z_OK && status !== Z_BUF_ERROR && stream.avail_out > 0) {
      // If all output is there, the fault lies after the span.
      throw corruptSpan(stream, uncompressedLength, zlibReason(stream, status));
    }
  }
  return output;
}

function skipTrailer(stream: ZStream): void {
  const skipped = Math.min(GZIP_TRAILER_BYTES, stream.avail_in);
  stream.next_in += skipped;
  stream.avail_in -= skipped;
}

function corruptSpan(stream: ZStream, uncompressedLength: number, problem: string): SpandrelError {
  const place = `at byte ${stream.next_out} of ${uncompressedLength}`;
  return new SpandrelError('SPAN_CORRUPT', `the span is damaged ${place}: ${problem}`);
}

function openStream(windowBits: number): ZStream {
  const stream = new ZStream();
  const status = zlibInflateInit2(stream, windowBits);
  if (status !== Z_OK) throw new SpandrelError('INTERNAL', `pako refused window bits ${windowBits}`);
  return stream;
}

function giveInput(stream: ZStream, bytes: Uint8Array): void {
  stream.input = bytes;
  stream.next_in = 0;
  stream.avail_in = bytes.length;
}

/** zlib's message, such as `invalid distance too far back` or `incorrect data check`. */
function zlibReason(stream: ZStream, status: Z_CallStatus): string {
  return stream.msg === '' ? `zlib status ${status}` : stream.msg;
}
