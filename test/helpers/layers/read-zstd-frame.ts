import type { ByteRange } from '../../../src/core/byte-range.ts';
import { ZstdReader, type ZstdReaderInput } from '../../../src/inflate/zstd-reader.ts';

/** A range of the output behind a frame's start, by a reader that has come to nothing else before. */
export async function readZstdFrame({
  uncompressed,
  ...input
}: Omit<ZstdReaderInput, 'uncompressedStart'> & { readonly uncompressed: ByteRange }): Promise<Buffer> {
  await using reader = new ZstdReader({ ...input, uncompressedStart: 0 });
  return Buffer.from(await reader.read(uncompressed));
}
