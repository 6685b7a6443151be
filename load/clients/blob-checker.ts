import { readFileSync } from 'node:fs';

import type { ClientConnection, Reception } from './client-connection.ts';
import type { SampleBlob } from '../samples/sample-image.ts';

/** The client received wrong bytes, or a response whose headers contradict its body. Must never happen. */
export class WrongBytesError extends Error {
  override readonly name = 'WrongBytesError';
}

/** Requests blobs and compares every byte with the file that the blob was made from. */
export class BlobChecker {
  readonly #contents = new Map<string, Buffer>();
  readonly #prefix: string;

  /** @param repository its name at the server */
  constructor(repository: string) {
    this.#prefix = `/v2/${repository}/blobs/`;
  }

  /**
   * Fetches the whole blob, or `[start, end)` of it.
   * @throws WrongBytesError if the response ends normally with wrong bytes; Error for any other failure
   */
  async fetch(
    connection: ClientConnection,
    blob: SampleBlob,
    range?: { start: number; end: number },
  ): Promise<Reception> {
    const content = this.#content(blob);
    const { start, end } = range ?? { start: 0, end: blob.size };
    const expected = range === undefined ? 200 : 206;
    const checked = new CheckedBytes(content, start, end);
    const reception = await connection.get(this.#prefix + blob.digest, {
      ...(range === undefined ? {} : { range: `${start}-${end - 1}` }),
      onPiece(piece, status) {
        // The body of an error is not compared.
        if (status === expected) checked.see(piece);
      },
    });
    if (reception.status !== expected) throw new Error(`${blob.digest}: status ${reception.status}`);
    checked.end(blob.digest);
    return reception;
  }

  #content({ digest, path }: SampleBlob): Buffer {
    const known = this.#contents.get(digest) ?? readFileSync(path);
    this.#contents.set(digest, known);
    return known;
  }
}

/** Compares received bytes with expected ones. */
export class CheckedBytes {
  readonly #content: Buffer;
  readonly #end: number;
  #place: number;
  #wrongPlace: number | undefined;

  /** Expects `[start, end)` of `content`. */
  constructor(content: Buffer, start: number, end: number) {
    this.#content = content;
    this.#place = start;
    this.#end = end;
  }

  see(piece: Buffer): void {
    const next = this.#place + piece.length;
    if (piece.compare(this.#content, this.#place, Math.min(next, this.#end)) !== 0)
      this.#wrongPlace ??= this.#place;
    this.#place = next;
  }

  /**
   * Call when the response broke, and what arrived before counts.
   * @throws WrongBytesError
   */
  endEarly(name: string): void {
    if (this.#wrongPlace !== undefined)
      throw new WrongBytesError(`${name}: wrong bytes in the piece from ${this.#wrongPlace}`);
  }

  /**
   * Call when the client accepts the response as complete.
   * @throws WrongBytesError
   */
  end(name: string): void {
    this.endEarly(name);
    if (this.#place !== this.#end)
      throw new WrongBytesError(`${name}: a good end at ${this.#place} instead of ${this.#end}`);
  }
}
