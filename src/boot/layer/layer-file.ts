import { CheckedBytes } from '../../blobs/verification/checked-bytes.ts';
import type { LayerLimits } from '../../build/build-layer.ts';
import { decompressStream } from '../../build/cut-stream.ts';
import { type FilePart, readFilePart } from '../../build/file-part.ts';
import { NewFile } from '../../build/output/new-file.ts';
import { detectPartCompression } from '../../build/index-layer-file.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { TocRecords } from '../../index/toc-records.ts';
import { engineNamed } from '../../inflate/choose-engine.ts';
import type { EngineName } from '../../inflate/engine.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { TarReader } from '../../tar/tar-reader.ts';

/** A layer in a file, compressed or not. */
export interface LayerFile extends FilePart {
  readonly digest: Digest;
}

/** How layers in files are decompressed. */
export interface Decompression {
  readonly engine: EngineName;
  readonly limits: LayerLimits;
}

/**
 * The entries of a layer.
 * @throws SpandrelError LAYER_CORRUPT, LAYER_UNSUPPORTED, LAYER_TOO_LARGE, TAR_INVALID; BLOB_CORRUPT if it
 * has another digest
 */
export async function readLayerEntries(
  layer: LayerFile,
  decompression: Decompression,
): Promise<Iterable<TocEntry>> {
  const { maxTocBytes, maxTocEntries } = decompression.limits;
  const entries = new TocRecords(maxTocBytes);
  const reader = new TarReader((entry) => {
    if (entries.length === maxTocEntries)
      throw new SpandrelError('LAYER_TOO_LARGE', `the layer has more than ${maxTocEntries} files`);
    entries.add(entry);
  });
  await decompress(layer, decompression, (bytes) => reader.write(bytes));
  reader.finish();
  if (reader.problem?.code === 'TAR_INVALID') throw reader.problem;
  return listOf(entries);
}

function* listOf(entries: TocRecords): Generator<TocEntry, void, void> {
  for (let place = 0; place < entries.length; place++) {
    const entry = entries.at(place);
    if (entry !== undefined) yield entry;
  }
}

/**
 * Writes some ranges of a decompressed layer to a file, one after the other.
 * @param ranges ascending and apart
 * @throws SpandrelError as {@link readLayerEntries}; STORE_FULL, STORE_FAILED
 */
export async function copyLayerRanges(
  layer: LayerFile,
  ranges: readonly ByteRange[],
  path: string,
  decompression: Decompression,
): Promise<void> {
  using file = new NewFile(path);
  let position = 0;
  let next = 0;
  await decompress(layer, decompression, (bytes) => {
    const chunk = { start: position, end: position + bytes.length };
    for (let range = ranges[next]; range !== undefined && range.start < chunk.end; range = ranges[next]) {
      const part = bytes.subarray(Math.max(0, range.start - chunk.start), range.end - chunk.start);
      file.write(part);
      if (range.end > chunk.end) break;
      next++;
    }
    position = chunk.end;
  });
  if (next < ranges.length) throw new SpandrelError('LAYER_CORRUPT', 'the layer ends within an entry');
}

async function decompress(
  layer: LayerFile,
  { engine, limits }: Decompression,
  onOutput: (bytes: Uint8Array) => void,
): Promise<void> {
  const { path, range, digest } = layer;
  const compression = await detectPartCompression(layer);
  let uncompressedBytes = 0;
  await using checked = new CheckedBytes(readFilePart(layer), digest);
  await decompressStream(
    checked,
    {
      compression,
      engine: engineNamed(engine),
      maxZstdWindowBytes: limits.maxZstdWindowBytes,
      reread: (start) => readFilePart({ path, range: { ...range, start: range.start + start } }),
    },
    (bytes) => {
      uncompressedBytes += bytes.length;
      if (uncompressedBytes > limits.maxUncompressedBytes)
        throw new SpandrelError(
          'LAYER_TOO_LARGE',
          `the layer inflates to more than ${limits.maxUncompressedBytes} bytes`,
        );
      onOutput(bytes);
    },
  );
  await checked.finish();
}
