import type { BlobReader } from '../../../src/blobs/reads/blob-handle.ts';
import type { ByteRange } from '../../../src/core/byte-range.ts';
import { seededRandom } from '../seeded-random.ts';

/** Bytes without any pattern, the same for the same seed. */
export function randomBlob(bytes: number, seed: number): Buffer {
  const random = seededRandom(seed);
  const blob = Buffer.alloc(Math.ceil(bytes / 4) * 4);
  for (let place = 0; place < blob.byteLength; place += 4)
    blob.writeUInt32LE(Math.floor(random() * 2 ** 32), place);
  return blob.subarray(0, bytes);
}

export async function readRange(reader: BlobReader, range: ByteRange): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of reader.read(range)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function readWhole(reader: BlobReader): Promise<Buffer> {
  return readRange(reader, { start: 0, end: reader.sizeBytes });
}
