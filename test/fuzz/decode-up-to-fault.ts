import { once } from 'node:events';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';

/** The output of Node's decoder before it fails, except the few bytes that it drops then. */
export async function decodeUpToFault(compressed: Buffer, compression: 'gzip' | 'zstd'): Promise<Buffer> {
  const chunkSize = constants.Z_MIN_CHUNK;
  const decoder = compression === 'gzip' ? createGunzip({ chunkSize }) : createZstdDecompress({ chunkSize });
  const parts: Buffer[] = [];
  decoder.on('data', (part: Buffer) => parts.push(part));
  decoder.end(compressed);
  await once(decoder, 'close').catch(() => undefined);
  return Buffer.concat(parts);
}
