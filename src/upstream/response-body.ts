import { Readable } from 'node:stream';

import { SpandrelError } from '../core/errors.ts';
import { explainFault } from './transport-fault.ts';

/** More than this is not read of a body that nobody wants, only to keep its connection. */
const MAX_DISCARDED_BYTES = 64 * 1024;

/** Body of an answer. Must be iterated, read or discarded; it keeps a connection until then. Backpressure reaches the socket. */
export class ResponseBody implements AsyncIterable<Buffer> {
  readonly #stream: Readable;
  readonly #upstream: string;
  readonly #signal: AbortSignal | undefined;
  readonly #onBytes: (count: number) => void;

  constructor(
    stream: Readable,
    context: { upstream: string; signal: AbortSignal | undefined; onBytes: (count: number) => void },
  ) {
    this.#stream = stream;
    this.#upstream = context.upstream;
    this.#signal = context.signal;
    this.#onBytes = context.onBytes;
    // Whoever reads gets the error from the iterator; while nobody does, it must not end the process.
    stream.on('error', () => undefined);
  }

  /** A body that has been read already, to be read again. */
  static of(upstream: string, bytes: Buffer): ResponseBody {
    return new ResponseBody(Readable.from([bytes]), {
      upstream,
      signal: undefined,
      onBytes: () => undefined,
    });
  }

  /** @throws SpandrelError UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_PROTOCOL; the reason of the request's signal */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      for await (const chunk of this.#stream as AsyncIterable<Buffer>) {
        this.#onBytes(chunk.byteLength);
        yield chunk;
      }
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw explainFault(this.#upstream, error).error;
    }
  }

  /** The whole body. @throws SpandrelError UPSTREAM_PROTOCOL if it has more than `maxBytes`; as iterating */
  async read(maxBytes: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this) {
      length += chunk.byteLength;
      if (length > maxBytes) {
        throw new SpandrelError(
          'UPSTREAM_PROTOCOL',
          `upstream ${this.#upstream}: the answer has more than ${maxBytes} bytes`,
        );
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
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
}
