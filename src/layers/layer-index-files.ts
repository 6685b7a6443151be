import { rm } from 'node:fs/promises';

import type { DigestFiles } from '../blobs/shelves/digest-files.ts';
import { storeFault } from '../blobs/files/store-fault.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import type { Logger } from '../telemetry/logger.ts';
import { INDEX_FORMAT_VERSION } from '../index/index-footer.ts';
import type { CompletedBuild } from '../build/building-index.ts';
import { LayerIndex } from '../index/layer-index.ts';
import type { LayerSummary } from '../index/layer-summary.ts';
import { decodeSharedIndex, encodeSharedIndex } from './shared-index.ts';
import type { ZtocStore } from './ztoc-store.ts';

export interface LayerIndexFilesDeps {
  /** Index files, keyed by the digest of the layer. */
  readonly files: DigestFiles;
  readonly ztocs: ZtocStore;
  /** Where replicas share their indexes. */
  readonly shared: ByteCache | undefined;
  readonly spanBytes: number;
  readonly readSpanBytes: number;
  readonly maxTocBytes: number;
  readonly logger: Logger;
}

export interface PublishedIndex {
  /** Under its name. */
  readonly index: LayerIndex;
  /** Another replica had shared the same index. */
  readonly isConfirmed: boolean;
}

const NO_ZTOC = new Uint8Array(0);

/**
 * Complete indexes on disk, and in the tier that replicas share. An index and its zTOC are published in one step: the zTOC is stored
 * first, and only then the index gets its name; in the shared tier both are one value. Who finds an index finds its zTOC. An index that
 * does not fit the configuration, or has lost its zTOC, is as good as none: it stays until another takes its place.
 */
export class LayerIndexFiles {
  readonly #deps: LayerIndexFilesDeps;
  /** What is being published or evicted. */
  readonly #turns = new Map<Digest, Promise<unknown>>();
  /** zTOCs of the store that may belong to no index, while {@link sweep} looks for those. */
  #orphans = new Set<Digest>();

  constructor(deps: LayerIndexFilesDeps) {
    this.#deps = deps;
  }

  /** Where an index of a layer is written, and the name that {@link publish} gives it. */
  async newPaths(digest: Digest): Promise<{ indexPath: string; publishedPath: string }> {
    try {
      return { indexPath: await this.#deps.files.newPath(), publishedPath: this.#deps.files.path(digest) };
    } catch (error) {
      throw storeFault(error, 'begin an index');
    }
  }

  path(digest: Digest): string {
    return this.#deps.files.path(digest);
  }

  /** A stored index that fits the configuration, from this replica or another. */
  async load(digest: Digest): Promise<LayerIndex | undefined> {
    return (
      (await this.#open(digest)) ??
      ((await this.#inTurn(digest, () => this.#fetchShared(digest))) ? await this.#open(digest) : undefined)
    );
  }

  /**
   * Store the zTOC of a new index, give the index its name, and share both.
   * The file that it was written to is moved.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  publish(build: CompletedBuild): Promise<PublishedIndex> {
    return this.#inTurn(build.index.summary.layerDigest, () => this.#publish(build));
  }

  async #publish({ index, indexPath, ztoc: bytes }: CompletedBuild): Promise<PublishedIndex> {
    const { ztocs, files } = this.#deps;
    const { layerDigest, ztoc } = index.summary;
    let stored: Uint8Array = NO_ZTOC;
    try {
      if (ztoc !== undefined) this.#orphans.delete(ztoc.digest);
      if (ztoc !== undefined && bytes !== undefined) stored = await ztocs.put(bytes, ztoc.digest);
      await files.take(layerDigest, indexPath);
    } catch (error) {
      throw storeFault(error, 'keep an index');
    }
    const isConfirmed = await this.#share(layerDigest, stored);
    return { index: index.named(files.path(layerDigest)), isConfirmed };
  }

  /** The index is in use: others go before it when there is no room. */
  noteUse(digest: Digest): void {
    this.#deps.files.noteUse(digest);
  }

  /** Remove an index, and then the zTOC that belongs to it. Whoever reads by it finds that it is gone, and has it made again. */
  evict(digest: Digest): Promise<void> {
    return this.#inTurn(digest, async () => {
      const { files, ztocs, logger } = this.#deps;
      const index = await LayerIndex.open(files.path(digest)).catch((error: unknown) => {
        logger.debug({ layer: digest, err: error }, 'an index that is to go cannot be read');
        return undefined;
      });
      await files.remove(digest);
      const ztoc = index?.summary.ztoc;
      if (ztoc !== undefined) await ztocs.remove(ztoc.digest);
    });
  }

  /**
   * Remove zTOCs that no index has: a process that is killed leaves them, and a build with another span size. Nothing is removed if
   * an index cannot be read at the moment.
   * @param found what was in the store before anything was published
   * @returns how many are gone
   */
  async sweep(
    found: { readonly indexes: readonly Digest[]; readonly ztocs: readonly Digest[] },
    signal: AbortSignal,
  ): Promise<number> {
    const orphans = new Set(found.ztocs);
    this.#orphans = orphans;
    for (const layer of found.indexes) {
      if (signal.aborted) return 0;
      const ztoc = await this.#findZtoc(layer);
      if (ztoc !== undefined) orphans.delete(ztoc);
    }
    let count = 0;
    for (const ztoc of orphans) {
      if (signal.aborted) break;
      orphans.delete(ztoc);
      await this.#deps.ztocs.remove(ztoc);
      count++;
    }
    return count;
  }

  /** The zTOC of a stored index; none of an index that is damaged, or gone. @throws SpandrelError STORE_FAILED */
  async #findZtoc(layer: Digest): Promise<Digest | undefined> {
    try {
      return (await LayerIndex.readSummary(this.#deps.files.path(layer))).ztoc?.digest;
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT' || isSpandrelError(error, 'INDEX_MALFORMED')) return undefined;
      throw error;
    }
  }

  /** Publishing and evicting take turns, so that an index is never there without its zTOC. */
  async #inTurn<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    const turn = Promise.resolve(this.#turns.get(digest)).then(work);
    const over = turn.catch(() => undefined);
    this.#turns.set(digest, over);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(digest) === over) this.#turns.delete(digest);
    }
  }

  /** Never fails: the index is stored already. @returns true if another replica had shared the same index */
  async #share(digest: Digest, ztoc: Uint8Array): Promise<boolean> {
    const { shared, files, logger } = this.#deps;
    try {
      const index = shared && (await files.read(digest));
      if (shared === undefined || index === undefined) return false;
      const [key, value] = [this.#sharedKey(digest), encodeSharedIndex({ index, ztoc })];
      const known = await shared.get(key);
      if (known !== undefined && value.equals(known.bytes)) return true;
      await shared.set(key, value);
    } catch (error) {
      logger.warn({ err: error, layer: digest }, 'an index could not be shared with other replicas');
    }
    return false;
  }

  /** The index of a layer could not be written. */
  noteWriteFailure(error: unknown): void {
    this.#deps.files.noteWriteFailure(error);
  }

  /** Remove the file of an index that has not been published, if there is one. The next start sweeps what cannot be removed. */
  async drop(path: string): Promise<void> {
    await rm(path, { force: true }).catch((error: unknown) => this.noteWriteFailure(error));
  }

  async #open(digest: Digest): Promise<LayerIndex | undefined> {
    const { files, spanBytes, readSpanBytes, maxTocBytes, logger } = this.#deps;
    try {
      const index = await LayerIndex.open(files.path(digest));
      const { summary } = index;
      // An index made with another span size or limit belongs to another configuration and is made anew.
      const fits =
        summary.spanBytes === spanBytes &&
        summary.readSpanBytes === readSpanBytes &&
        (summary.reason?.code !== 'LAYER_TOO_LARGE' || summary.maxTocBytes === maxTocBytes);
      const isOurs = summary.isPushed !== true;
      if (summary.layerDigest === digest && fits && isOurs && (await this.hasZtoc(summary))) {
        files.noteUse(digest);
        return index;
      }
      logger.info({ layer: digest }, 'stored index does not fit, building it again');
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw storeFault(error, 'open an index');
      files.noteDamage(digest);
      logger.warn({ layer: digest, cause: error.message }, 'stored index cannot be read, building it again');
    }
    return undefined;
  }

  /** The zTOC of an index, if the layer has one and it is there. @throws SpandrelError STORE_FAILED */
  async readZtoc({ ztoc }: LayerSummary): Promise<Uint8Array | undefined> {
    return ztoc && this.#deps.ztocs.read(ztoc.digest);
  }

  /** True if nothing is missing of what belongs to an index. */
  async hasZtoc({ ztoc }: LayerSummary): Promise<boolean> {
    return ztoc === undefined || (await this.#deps.ztocs.has(ztoc.digest));
  }

  /**
   * Take over an index that another replica has built; only if the tier is authentic. Otherwise the index is
   * built, and then compared.
   */
  async #fetchShared(digest: Digest): Promise<boolean> {
    const { shared, ztocs, files } = this.#deps;
    if (shared?.isAuthentic !== true) return false;
    const key = this.#sharedKey(digest);
    const hit = await shared.get(key);
    if (hit === undefined) return false;
    try {
      const { index, ztoc: compressed } = decodeSharedIndex(hit.bytes);
      const { layerDigest, ztoc, isPushed } = LayerIndex.fromBytes(index).summary;
      if (ztoc !== undefined) this.#orphans.delete(ztoc.digest);
      const isWhole =
        layerDigest === digest &&
        isPushed !== true &&
        (ztoc === undefined || (await ztocs.putCompressed(compressed, ztoc.digest)));
      if (isWhole) await files.write(digest, index);
      else await shared.delete(key);
      return isWhole;
    } catch (error) {
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw storeFault(error, 'keep an index');
      await shared.delete(key);
      return false;
    }
  }

  #sharedKey(digest: Digest): string {
    const { spanBytes, readSpanBytes } = this.#deps;
    return `layer-index:${INDEX_FORMAT_VERSION}:${spanBytes}:${readSpanBytes}:${digest}`;
  }
}
