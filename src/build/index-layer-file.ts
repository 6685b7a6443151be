import type { Digest } from '../core/digest.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import type { LayerCompression } from '../core/media-types.ts';
import { engineNamed } from '../inflate/choose-engine.ts';
import type { EngineName } from '../inflate/engine.ts';
import { type FilePart, readFilePart } from './file-part.ts';
import { IndexWriter } from '../index/index-writer.ts';
import { buildLayer, type LayerBuild, type LayerLimits } from './build-layer.ts';
import { hashHere, type OutputHash } from './output/output-hash.ts';

/** How to index a layer. */
export interface LayerIndexing {
  /** The expected digest, if known. */
  readonly digest?: Digest;
  /** For gzip. */
  readonly engine: EngineName;
  readonly spanBytes: number;
  readonly limits: LayerLimits;
  /** Temporary file for the windows of the checkpoints, about as large as the zTOC; removed at the end. */
  readonly scratchPath: string;
}

/** Location of a layer, and how to index it. */
export interface LayerFileInput extends FilePart, LayerIndexing {}

/** The zTOC that `soci` would create; see {@link LayerBuild}. */
export interface LayerFileIndex extends Pick<LayerBuild, 'ztoc' | 'mountable' | 'reason' | 'spanCount'> {
  readonly fileCount: number;
}

/**
 * Indexes a layer that is stored in a file. Holds its table of contents and its zTOC in memory, never the
 * layer.
 * @param onProgress receives the number of compressed bytes that are done
 * @param outputHash stays the caller's
 * @throws SpandrelError BLOB_CORRUPT if the digest is not the expected one; errors of {@link buildLayer}
 */
export async function indexLayerFile(
  input: LayerFileInput,
  onProgress: (doneBytes: number) => void,
  outputHash: OutputHash = hashHere(),
): Promise<LayerFileIndex> {
  return await indexLayerStream(readWithProgress(input, onProgress), input, outputHash);
}

/**
 * As {@link indexLayerFile}, for a layer that arrives in chunks. A chunk may be reused once the next one is
 * requested.
 */
export async function indexLayerStream(
  layer: AsyncIterable<Uint8Array>,
  indexing: LayerIndexing,
  outputHash: OutputHash = hashHere(),
): Promise<LayerFileIndex> {
  using writer = new IndexWriter(indexing.scratchPath);
  const { spanBytes, limits, digest } = indexing;
  const { compression, chunks } = await detectStreamCompression(layer);
  const engine = engineNamed(indexing.engine);
  const options = { compression, spanBytes, limits, engine, writer, outputHash, layerDigest: digest };
  const { ztoc, mountable, reason, spanCount, entries } = await buildLayer(chunks, options);
  return {
    mountable,
    spanCount,
    fileCount: entries.length,
    ...(ztoc === undefined ? {} : { ztoc }),
    ...(reason === undefined ? {} : { reason }),
  };
}

async function detectStreamCompression(
  layer: AsyncIterable<Uint8Array>,
): Promise<{ compression: LayerCompression; chunks: AsyncIterable<Uint8Array> }> {
  const rest = layer[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < MAGIC_BYTES) {
    const next = await rest.next();
    if (next.done === true) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  const compression = detectCompression(head.subarray(0, MAGIC_BYTES));
  return { compression, chunks: continueWith(head, rest) };
}

async function* continueWith(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    if (head.length > 0) yield head;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** Compression of a layer in a file. */
export async function detectPartCompression({ path, range }: FilePart): Promise<LayerCompression> {
  const head = { start: range.start, end: Math.min(range.start + MAGIC_BYTES, range.end) };
  const bytes: number[] = [];
  for await (const chunk of readFilePart({ path, range: head })) bytes.push(...chunk);
  return detectCompression(Uint8Array.from(bytes));
}

/** As {@link readFilePart}; `onProgress` receives the number of bytes that are done. */
export async function* readWithProgress(
  part: FilePart,
  onProgress: (doneBytes: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  let doneBytes = 0;
  for await (const chunk of readFilePart(part)) {
    yield chunk;
    doneBytes += chunk.length;
    onProgress(doneBytes);
  }
}
