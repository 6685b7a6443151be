import { constants, gunzipSync, inflateRawSync } from 'node:zlib';

import { nodeErrorCode } from '../core/node-error-code.ts';
import type { SpanStream } from './span-stream.ts';

/** CRC-32 and length after a gzip member's deflate data (RFC 1952, 2.3.1). */
export const GZIP_TRAILER_BYTES = 8;

const MAX_OUTPUT_BUFFER_BYTES = 16 * 1024 * 1024;

/**
 * The span, decoded by Node's zlib; `undefined` if that fails. A failure does not mean that the span is
 * damaged: Node cannot stop at a given byte of output, so bytes after the span may disturb it.
 */
export function inflateSpanNatively(stream: SpanStream): Uint8Array<ArrayBuffer> | undefined {
  const { deflate, window, uncompressedLength } = stream;
  try {
    const { buffer: head, engine } = inflateMember(deflate, window, uncompressedLength);
    if (head.length === uncompressedLength) return ownedBytes(head);
    // If all input was consumed, the span is cut short. Otherwise a gzip member ended, and others may follow.
    const members = deflate.subarray(engine.bytesWritten + GZIP_TRAILER_BYTES);
    if (members.length === 0) return undefined;
    const tail = gunzipSync(members, options(uncompressedLength - head.length));
    if (head.length + tail.length !== uncompressedLength) return undefined;
    const output = new Uint8Array(uncompressedLength);
    output.set(head);
    output.set(tail, head.length);
    return output;
  } catch (error) {
    if (isDecodingError(error)) return undefined;
    throw error;
  }
}

interface MemberResult {
  readonly buffer: Buffer<ArrayBuffer>;
  /** Counts the consumed compressed bytes. */
  readonly engine: { readonly bytesWritten: number };
}

function inflateMember(deflate: Uint8Array, window: Uint8Array, maxBytes: number): MemberResult {
  const dictionary = window.length === 0 ? {} : { dictionary: window };
  // The declarations ignore that `info` changes the result.
  const result: unknown = inflateRawSync(deflate, { ...options(maxBytes), ...dictionary, info: true });
  return result as MemberResult;
}

function options(maxBytes: number): { finishFlush: number; maxOutputLength: number; chunkSize: number } {
  return {
    // A span ends after its last block, which does not end the deflate stream.
    finishFlush: constants.Z_SYNC_FLUSH,
    maxOutputLength: maxBytes,
    // One byte more than needed: Node takes a buffer that is not full for the end of the output.
    chunkSize: Math.max(constants.Z_MIN_CHUNK, Math.min(maxBytes + 1, MAX_OUTPUT_BUFFER_BYTES)),
  };
}

/** Copies small results out of Node's buffer pool, where they can be neither transferred nor kept cheaply. */
function ownedBytes(bytes: Buffer<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const owned = bytes.byteOffset === 0 && bytes.buffer.byteLength <= bytes.length + constants.Z_MIN_CHUNK;
  return owned ? new Uint8Array(bytes.buffer, 0, bytes.length) : new Uint8Array(bytes);
}

function isDecodingError(error: unknown): boolean {
  return ['Z_DATA_ERROR', 'Z_BUF_ERROR', 'Z_NEED_DICT', 'ERR_BUFFER_TOO_LARGE'].includes(
    nodeErrorCode(error),
  );
}
