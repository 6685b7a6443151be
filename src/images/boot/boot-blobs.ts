import type { BlobStore } from '../../blobs/blob-store.ts';
import type { BlobReader } from '../../blobs/reads/blob-handle.ts';
import { type BootPool, packBootTar } from '../../boot/layer/pack-boot-tar.ts';
import type { BootPlan } from '../../boot/layer/boot-plan.ts';
import type { PackOutcome } from '../../boot/layer/boot-worker.ts';
import { readBootTar } from '../../boot/layer/read-boot-tar.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import { GZIP_PACKER } from '../../inflate/gzip-packer.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import type { BlobResponse, BlobSource } from '../../core/sources/blob-source.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { Layers } from '../lazy/layers.ts';
import type { BootRecipe } from '../proofs/boot-recipe.ts';

export interface BootBlobsDeps {
  readonly blobs: BlobStore;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly reader: LayerReader;
  readonly pool: BootPool;
}

/**
 * The blobs of boot layers, in the store like those of an upstream, and evicted like them. A missing one is
 * made from its recipe, as others are fetched from their registry, and compared with its digest.
 */
export class BootBlobs {
  readonly #deps: BootBlobsDeps;

  constructor(deps: BootBlobsDeps) {
    this.#deps = deps;
  }

  /**
   * Compresses what a plan copies from layers that the repository has.
   * @throws SpandrelError as {@link Layers.authorizedLayer}, `LayerReader.read`; WORKER_FAILED, OVERLOADED
   */
  async pack(target: Target, plan: BootPlan, maxBytes: number, signal: AbortSignal): Promise<PackOutcome> {
    const { layers, indexes, reader, pool } = this.#deps;
    const fairnessKey = targetKey(target);
    const opened = new Map<Digest, { readonly layer: AuthorizedLayer; readonly index: LayerIndex }>();
    for (const digest of plan.layers) {
      const layer = await layers.authorizedLayer(target, digest, signal);
      opened.set(digest, { layer, index: await indexes.ensure(layer, signal) });
    }
    const reading = reader.beginRequest(fairnessKey, signal);
    const read = (digest: Digest, range: ByteRange): AsyncIterable<Uint8Array> => {
      const from = opened.get(digest);
      if (from === undefined) throw new SpandrelError('INTERNAL', `a plan does not name the layer ${digest}`);
      return reader.read(from.layer, from.index, { range, reading });
    };
    return packBootTar(pool, readBootTar(plan, read), maxBytes, fairnessKey);
  }

  /** Puts a boot layer into the store. @throws SpandrelError STORE_FULL, STORE_FAILED */
  async put(digest: Digest, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const source = new MadeBlob(async () => bytes);
    await using blob = await this.#deps.blobs.openBlob(digest, source, {
      claimedBytes: bytes.byteLength,
      complete: true,
      signal,
    });
    await blob.completed(signal);
  }

  /**
   * Opens a boot layer for a repository that has all that it was made from.
   * @throws SpandrelError BLOB_UNKNOWN if it is lost, and this version cannot make the same bytes; as
   * {@link pack}
   */
  async open(target: Target, recipe: BootRecipe, signal: AbortSignal): Promise<BlobReader> {
    const { digest, size } = recipe.layer;
    const source = new MadeBlob(async (closing) => {
      if (recipe.compressor !== GZIP_PACKER)
        throw new SpandrelError('BLOB_UNKNOWN', 'the boot layer was made by another version and is lost');
      const { bytes } = await this.pack(target, recipe, size, closing);
      if (bytes === undefined) throw new SpandrelError('BLOB_CORRUPT', 'the boot layer became larger');
      return bytes;
    });
    return this.#deps.blobs.readBlob(digest, source, { claimedBytes: size, signal });
  }
}

/** A blob that is made when it is first fetched, and held until its fill ends. */
class MadeBlob implements BlobSource {
  readonly #make: (signal: AbortSignal) => Promise<Uint8Array>;
  #made: Promise<Uint8Array> | undefined;

  constructor(make: (signal: AbortSignal) => Promise<Uint8Array>) {
    this.#make = make;
  }

  async fetch(range: ByteRange | undefined, signal: AbortSignal): Promise<BlobResponse> {
    const making = (this.#made ??= this.#make(signal));
    making.catch(() => (this.#made = undefined));
    const bytes = await making;
    const start = Math.min(range?.start ?? 0, bytes.byteLength);
    const end = Math.min(range?.end ?? bytes.byteLength, bytes.byteLength);
    return {
      range: { start, end },
      totalBytes: bytes.byteLength,
      body: (async function* () {
        if (start < end) yield Buffer.from(bytes.subarray(start, end));
      })(),
    };
  }
}
