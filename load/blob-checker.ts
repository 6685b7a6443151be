import { readFileSync } from 'node:fs';

import type { ReceivingConnection, Reception } from './receiving-connection.ts';
import type { SampleBlob } from './sample-image.ts';

/** Asks for blobs and compares every byte that comes with the file that the blob was made from. */
export class BlobChecker {
  readonly #contents = new Map<string, Buffer>();
  readonly #prefix: string;

  /** @param repository as the server names it */
  constructor(repository: string) {
    this.#prefix = `/v2/${repository}/blobs/`;
  }

  /** The whole blob, or `[start, end)` of it. @throws Error for any other answer and any wrong byte */
  async fetch(
    connection: ReceivingConnection,
    blob: SampleBlob,
    range?: { start: number; end: number },
  ): Promise<Reception> {
    const content = this.#content(blob);
    const { start, end } = range ?? { start: 0, end: blob.size };
    let place = start;
    const reception = await connection.get(this.#prefix + blob.digest, {
      ...(range === undefined ? {} : { range: `${start}-${end - 1}` }),
      onPiece(piece) {
        if (piece.compare(content, place, Math.min(place + piece.length, end)) !== 0)
          throw new Error(`${blob.digest}: wrong bytes between ${place} and ${place + piece.length}`);
        place += piece.length;
      },
    });
    const expected = range === undefined ? 200 : 206;
    if (reception.status !== expected || place !== end)
      throw new Error(`${blob.digest}: status ${reception.status}, ${place - start} bytes of ${end - start}`);
    return reception;
  }

  #content({ digest, path }: SampleBlob): Buffer {
    const known = this.#contents.get(digest) ?? readFileSync(path);
    this.#contents.set(digest, known);
    return known;
  }
}
