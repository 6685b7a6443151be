import type { Digest } from '../core/digest.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import type { LayerCompression } from '../core/media-types.ts';
import { engineNamed } from '../inflate/choose-engine.ts';
import type { EngineName } from '../inflate/engine.ts';
import { type FilePart, readFilePart } from './file-part.ts';
import { IndexWriter } from '../index/index-writer.ts';
import { buildLayer, type LayerBuild, type LayerLimits } from './build-layer.ts';
import { hashHere, type OutputHash } from './output/output-hash.ts';

/** Location of a layer, and how to index it. */
export interface LayerFileInput extends FilePart {
  /** The expected digest, if known. */
  readonly digest?: Digest;
  /** For gzip. */
  readonly engine: EngineName;
  readonly spanBytes: number;
  readonly limits: LayerLimits;
  /** Temporary file for the windows of the checkpoints, about as large as the zTOC; removed at the end. */
  readonly scratchPath: string;
}

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
  using writer = new IndexWriter(input.scratchPath);
  const { spanBytes, limits, digest } = input;
  const compression = await detectPartCompression(input);
  const engine = engineNamed(input.engine);
  const options = { compression, spanBytes, limits, engine, writer, outputHash, layerDigest: digest };
  const build = await buildLayer(readWithProgress(input, onProgress), options);
  const { ztoc, mountable, reason, spanCount, entries } = build;
  return {
    mountable,
    spanCount,
    fileCount: entries.length,
    ...(ztoc === undefined ? {} : { ztoc }),
    ...(reason === undefined ? {} : { reason }),
  };
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
