import { rm } from 'node:fs/promises';

import { readFilePart } from '../../build/file-part.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { CopiedEntry } from './boot-plan.ts';
import type { Decompression, LayerFile } from './layer-file.ts';
import { type BootLayer, makeBootLayer } from './make-boot-layer.ts';
import { type BootPool, packBootTar } from './pack-boot-tar.ts';
import type { PlannedBootLayer } from './plan-boot-layer.ts';
import { readBootTar } from './read-boot-tar.ts';

export interface BootLayerOfFilesOptions extends Decompression {
  /** As {@link findCopies}. */
  readonly wanted: readonly RawText[];
  /** Most compressed bytes. */
  readonly most: number;
  readonly pool: BootPool;
  /** The path of a new temporary file. */
  readonly newPath: () => string;
}

const TREE_SIZE = { bytes: 2 ** 30, steps: 20_000_000 };

/**
 * Makes a boot layer from layers in files, which have no indexes. Decompresses all layers, and once more
 * those that it copies from, into temporary files of what it copies.
 * @param layers from the lowest up
 * @returns `undefined` if no file can be copied, or none fits
 * @throws SpandrelError LAYER_CORRUPT, LAYER_UNSUPPORTED, LAYER_TOO_LARGE, TAR_INVALID, BLOB_CORRUPT,
 * IMAGE_UNSUPPORTED, STORE_FULL, STORE_FAILED
 */
export async function makeBootLayerOfFiles(
  layers: readonly LayerFile[],
  { wanted, most, pool, newPath, engine, limits }: BootLayerOfFilesOptions,
): Promise<BootLayer | undefined> {
  const copies = await pool.tasks.findInFiles({ layers, wanted, maxSize: TREE_SIZE, engine, limits });
  const byDigest = new Map(layers.map((layer) => [layer.digest, layer]));
  await using copied = new AsyncDisposableStack();
  let files: ReadonlyMap<Digest, CopiedFile> | undefined;
  const copy = async (plan: PlannedBootLayer): Promise<ReadonlyMap<Digest, CopiedFile>> => {
    const all = await Promise.all(
      plan.layers.map(async (digest, place) => {
        const layer = byDigest.get(digest);
        if (layer === undefined) throw new SpandrelError('INTERNAL', `a plan names the layer ${digest}`);
        const file = new CopiedFile(
          plan.entries.filter((entry) => entry.layer === place),
          newPath(),
        );
        copied.defer(() => rm(file.path, { force: true }));
        await pool.tasks.copyRanges({ layer, ranges: file.ranges, path: file.path, engine, limits });
        return [digest, file] as const;
      }),
    );
    return new Map(all);
  };
  return await makeBootLayer(copies, most, async (plan, maxBytes) => {
    // Later plans copy less than the first one.
    const from = (files ??= await copy(plan));
    const read = (layer: Digest, range: ByteRange): AsyncIterable<Uint8Array> => {
      const file = from.get(layer);
      if (file === undefined) throw new SpandrelError('INTERNAL', `nothing was copied of ${layer}`);
      return file.read(range);
    };
    return packBootTar(pool, readBootTar(plan, read), maxBytes);
  });
}

/** A file with some ranges of a decompressed layer, one after the other. */
class CopiedFile {
  readonly path: string;
  readonly ranges: readonly ByteRange[];
  readonly #starts = new Map<number, number>();

  constructor(entries: readonly CopiedEntry[], path: string) {
    this.path = path;
    this.ranges = entries.toSorted((a, b) => a.start - b.start).map(({ start, end }) => ({ start, end }));
    let at = 0;
    for (const { start, end } of this.ranges) {
      this.#starts.set(start, at);
      at += end - start;
    }
  }

  /** One of the ranges. */
  read({ start, end }: ByteRange): AsyncIterable<Uint8Array> {
    const at = this.#starts.get(start) ?? 0;
    return readFilePart({ path: this.path, range: { start: at, end: at + end - start } });
  }
}
