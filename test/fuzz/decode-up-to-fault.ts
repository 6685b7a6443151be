import { once } from 'node:events';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';

/** What Node's decoder gives before it fails, but for the few bytes that it throws away then. */
export async function decodeUpToFault(compressed: Buffer, compression: 'gzip' | 'zstd'): Promise<Buffer> {
  const chunkSize = constants.Z_MIN_CHUNK;
  const decoder = compression === 'gzip' ? createGunzip({ chunkSize }) : createZstdDecompress({ chunkSize });
  const parts: Buffer[] = [];
  decoder.on('data', (part: Buffer) => parts.push(part));
  decoder.end(compressed);
  await once(decoder, 'close').catch(() => undefined);
  return Buffer.concat(parts);
}
