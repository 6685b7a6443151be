import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { SparseRegions } from '../tar/sparse-regions.ts';

const CHUNK_BYTES = 64 * 1024;

/**
 * A range of a sparse file, with zeros between its regions. Holds one chunk of its own and one of
 * `readStored`.
 * @param readStored reads a range of the bytes that the archive holds of the file
 * @throws SpandrelError RANGE_INVALID if `readStored` yields too few bytes; its errors
 */
export async function* readSparseFile(
  regions: SparseRegions,
  range: ByteRange,
  readStored: (stored: ByteRange) => AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  await using stored = new StoredBytes(readStored(regions.storedRange(range)));
  for (let start = range.start; start < range.end; start += CHUNK_BYTES) {
    const part = { start, end: Math.min(start + CHUNK_BYTES, range.end) };
    const chunk = Buffer.alloc(part.end - start);
    for (const region of regions.within(part))
      await stored.fill(chunk.subarray(region.start - start, region.end - start));
    yield chunk;
  }
}

/** Reads a stream in parts of any size. */
class StoredBytes implements AsyncDisposable {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async fill(target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length;) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true)
          throw new SpandrelError('RANGE_INVALID', 'the layer ends before the file does');
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, target.length - at);
      target.set(part, at);
      at += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }
}
