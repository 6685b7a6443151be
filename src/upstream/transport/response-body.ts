import { Readable } from 'node:stream';

import { SpandrelError } from '../../core/errors.ts';
import { type ContentCoding, decodeContent } from './content-coding.ts';
import { explainFault } from './transport-fault.ts';

/** More than this is not read of a body that nobody wants, only to keep its connection. */
const MAX_DISCARDED_BYTES = 64 * 1024;

export interface BodyContext {
  readonly upstream: string;
  readonly signal: AbortSignal | undefined;
  /** In the order in which they are undone. */
  readonly codings: readonly ContentCoding[];
  readonly onBytes: (count: number) => void;
}

/** Body of an answer. Must be iterated, read, discarded or disposed of; it keeps a connection until then. Backpressure reaches the socket. */
export class ResponseBody implements AsyncIterable<Buffer>, Disposable {
  readonly #stream: Readable;
  readonly #context: BodyContext;

  constructor(stream: Readable, context: BodyContext) {
    this.#stream = stream;
    this.#context = context;
    // Whoever reads gets the error from the iterator; while nobody does, it must not end the process.
    stream.on('error', () => undefined);
  }

  /** A body that has been read already, to be read again. */
  static of(upstream: string, bytes: Buffer): ResponseBody {
    return new ResponseBody(Readable.from([bytes]), {
      upstream,
      signal: undefined,
      codings: [],
      onBytes: () => undefined,
    });
  }

  /** The bytes as they are sent. @throws SpandrelError UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_PROTOCOL; the reason of the request's signal */
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
   * The whole content: unpacked where the upstream has packed it without being asked to, and as it is where it only says so.
   * @throws SpandrelError UPSTREAM_PROTOCOL if it has more than `maxBytes`; as iterating
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

  /** Let go of the body: a short rest is read so that the connection can be used again, a long one breaks it. */
  async discard(): Promise<void> {
    let length = 0;
    try {
      for await (const chunk of this) {
        length += chunk.byteLength;
        if (length > MAX_DISCARDED_BYTES) return;
      }
    } catch {
      // What was wrong with bytes that nobody wants concerns nobody.
    }
  }

  /** Break the connection; for a body that nobody iterates. */
  destroy(): void {
    this.#stream.destroy();
  }

  /** As {@link destroy}; nothing for a body that has been read. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  #tooLarge(maxBytes: number): SpandrelError {
    return new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.#context.upstream}: the answer has more than ${maxBytes} bytes`,
    );
  }
}
