import { createHash } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';

import { type Digest, finishDigest } from '../core/digest.ts';
import { type LayerCompression, MEDIA_TYPES } from '../core/media-types.ts';
import type { LayerTree } from './layer-tree.ts';
import { writeTar } from '../tar/write-tar.ts';

/** Tar bytes that go to the compressor at once. Members are small, and each step costs a turn of a thread. */
const BATCH_BYTES = 256 * 1024;
const LAYER_MEDIA_TYPES = {
  gzip: MEDIA_TYPES.ociLayerGzip,
  zstd: MEDIA_TYPES.ociLayerZstd,
  none: MEDIA_TYPES.ociLayer,
} as const;

/** A compressed layer. */
export interface BuiltLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly mediaType: string;
  /** The compressed layer, in an ArrayBuffer of its own. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly uncompressedBytes: number;
  /** Members of the tar. */
  readonly entries: number;
}

/**
 * Builds a layer and holds only its compressed bytes. Hashes on the calling thread, compresses in libuv's
 * threads. The tar is the same everywhere; the compressed bytes are the same on the same Node version and CPU
 * architecture.
 */
export async function buildLayer(tree: LayerTree, compression: LayerCompression): Promise<BuiltLayer> {
  const entries = tree.entries();
  const uncompressed = createHash('sha256');
  const compressed = createHash('sha256');
  const parts: Buffer[] = [];
  let uncompressedBytes = 0;

  function* tar(): Generator<Uint8Array> {
    for (const batch of batches(writeTar(entries))) {
      uncompressed.update(batch);
      uncompressedBytes += batch.length;
      yield batch;
    }
  }
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      compressed.update(chunk);
      parts.push(chunk);
      done();
    },
  });
  const source = Readable.from(tar(), { objectMode: false, highWaterMark: BATCH_BYTES });
  if (compression === 'none') await pipeline(source, sink);
  else await pipeline(source, compression === 'gzip' ? createGzip({ level: 6 }) : createZstdCompress(), sink);

  return {
    digest: finishDigest(compressed),
    diffId: finishDigest(uncompressed),
    mediaType: LAYER_MEDIA_TYPES[compression],
    bytes: join(parts),
    uncompressedBytes,
    entries: entries.length,
  };
}

function* batches(chunks: Iterable<Uint8Array>): Generator<Uint8Array> {
  let batch = new Uint8Array(BATCH_BYTES);
  let filled = 0;
  for (const chunk of chunks) {
    for (let taken = 0; taken < chunk.length;) {
      const part = chunk.subarray(taken, taken + BATCH_BYTES - filled);
      batch.set(part, filled);
      filled += part.length;
      taken += part.length;
      if (filled === BATCH_BYTES) {
        yield batch;
        // The compressor still reads the last batch.
        batch = new Uint8Array(BATCH_BYTES);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield batch.subarray(0, filled);
}

/** Not `Buffer.concat`: it may use Buffer's pool, which cannot be transferred. */
function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let filled = 0;
  for (const part of parts) {
    bytes.set(part, filled);
    filled += part.length;
  }
  return bytes;
}
