import { join } from 'node:path';

import { digestOf } from '../../../src/core/digest.ts';
import type { LayerCompression } from '../../../src/core/media-types.ts';
import { engineNamed } from '../../../src/inflate/choose-engine.ts';
import type { EngineName } from '../../../src/inflate/engine.ts';
import { IndexWriter } from '../../../src/index/index-writer.ts';
import { buildLayer, type LayerBuild, type LayerLimits } from '../../../src/build/build-layer.ts';
import { LayerIndex } from '../../../src/index/layer-index.ts';
import { summarizeLayer } from '../../../src/build/summarize-layer.ts';
import { hashHere } from '../../../src/build/output/output-hash.ts';
import { likelyTarSpanBytes, type TarSpanBytes } from '../../../src/build/tar/tar-span-bytes.ts';
import { chunksOf } from './gzip-corpus.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

export const NO_LIMITS: LayerLimits = { maxUncompressedBytes: 2 ** 40, maxTocEntries: 2 ** 31 };

export interface BuildFromBytesOptions {
  readonly compression: LayerCompression;
  readonly spanBytes: number;
  /** For gzip; WebAssembly when not given. */
  readonly engine?: EngineName;
  /** As `spanBytes` when not given. */
  readonly readSpanBytes?: number;
  readonly limits?: LayerLimits;
  /** Also a zTOC over the tar with spans of this size. */
  readonly tarSpanBytes?: TarSpanBytes;
  /** How the layer is fed. */
  readonly chunkBytes?: number;
}

/** A layer that has been built from bytes in this thread, with its index file in a folder of its own. */
export interface BuiltLayer extends AsyncDisposable {
  readonly build: LayerBuild;
  readonly index: LayerIndex;
  readonly indexPath: string;
}

/** @throws what the builder throws */
export async function buildFromBytes(layer: Uint8Array, options: BuildFromBytesOptions): Promise<BuiltLayer> {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await TemporaryFolder.create());
  const indexPath = join(folder.path, 'layer');
  const { compression, spanBytes, limits = NO_LIMITS, chunkBytes = 10_000, engine = 'wasm' } = options;
  const { readSpanBytes = spanBytes, tarSpanBytes } = options;
  const spanSizes =
    tarSpanBytes === undefined ? [] : likelyTarSpanBytes(tarSpanBytes, layer.length, compression);
  using writer = new IndexWriter(indexPath);
  const feed = chunks(layer, chunkBytes);
  const build = await buildLayer(feed, {
    compression,
    spanBytes,
    readSpanBytes,
    limits,
    engine: engineNamed(engine),
    writer,
    layerDigest: digestOf(layer),
    tarSpanBytes,
    outputHash: hashHere(spanSizes),
    reread: (start) => chunks(layer.subarray(start), chunkBytes),
  });
  writer.finish(
    summarizeLayer({ layerDigest: digestOf(layer), compression, spanBytes, readSpanBytes, limits }, build),
    build.entries,
  );
  const index = await LayerIndex.open(indexPath);
  const all = owned.move();
  return { build, index, indexPath, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** One buffer is used for all chunks, as it may be. */
export async function* chunks(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
  const buffer = new Uint8Array(chunkBytes);
  for (const part of chunksOf(bytes, chunkBytes)) {
    buffer.set(part);
    yield buffer.subarray(0, part.length);
  }
}
