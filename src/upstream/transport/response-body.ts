import { Readable } from 'node:stream';

import { SpandrelError } from '../../core/errors.ts';
import { type ContentCoding, decodeContent } from './content-coding.ts';
import { explainFault } from './transport-fault.ts';

/** Longest rest of an unwanted body that is read to keep its connection. */
const MAX_DISCARDED_BYTES = 64 * 1024;

export interface BodyContext {
  readonly upstream: string;
  readonly signal: AbortSignal | undefined;
  /** In the order in which to decode them. */
  readonly codings: readonly ContentCoding[];
  readonly onBytes: (count: number) => void;
}

/**
 * Body of a response. It must be iterated, read, discarded or disposed of: until then it keeps a connection.
 * Backpressure reaches the socket.
 */
export class ResponseBody implements AsyncIterable<Buffer>, Disposable {
  readonly #stream: Readable;
  readonly #context: BodyContext;

  constructor(stream: Readable, context: BodyContext) {
    this.#stream = stream;
    this.#context = context;
    // Readers get the error from the iterator. Without a reader it must not end the process.
    stream.on('error', () => undefined);
  }

  /** A body of bytes that have been read already. */
  static of(upstream: string, bytes: Buffer): ResponseBody {
    return new ResponseBody(Readable.from([bytes]), {
      upstream,
      signal: undefined,
      codings: [],
      onBytes: () => undefined,
    });
  }

  /**
   * The bytes as sent. @throws SpandrelError UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_PROTOCOL; the
   * reason of the request's signal
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      for await (const chunk of this.#stream as AsyncIterable<Buffer>) {
        this.#context.onBytes(chunk.byteLength);
        yield chunk;
      }
    } catch (error) {
      this.#context.signal?.throwIfAborted();
      throw explainFault(this.#context.upstream, error).error;
    }
  }

  /**
   * Reads the whole content. An encoded body is decoded; if it is not what its codings say, it is returned as
   * sent.
   * @throws SpandrelError UPSTREAM_PROTOCOL if the content exceeds `maxBytes`; as iterating
   */
  async read(maxBytes: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this) {
      length += chunk.byteLength;
      if (length > maxBytes) throw this.#tooLarge(maxBytes);
      chunks.push(chunk);
    }
    const sent = Buffer.concat(chunks);
    const content = await decodeContent(sent, this.#context.codings, maxBytes);
    if (content === 'too-large') throw this.#tooLarge(maxBytes);
    return content ?? sent;
  }

  /** Discards the body. Reads a short rest, so that the connection can be reused; a long one breaks it. */
  async discard(): Promise<void> {
    let length = 0;
    try {
      for await (const chunk of this) {
        length += chunk.byteLength;
        if (length > MAX_DISCARDED_BYTES) return;
      }
    } catch {
      // Errors of a discarded body do not matter.
    }
  }

  /** Breaks the connection; for a body that is not iterated. */
  destroy(): void {
    this.#stream.destroy();
  }

  /** As {@link destroy}; does nothing if the body has been read. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  #tooLarge(maxBytes: number): SpandrelError {
    return new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.#context.upstream}: the response has more than ${maxBytes} bytes`,
    );
  }
}
