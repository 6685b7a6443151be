import type { DigestFiles } from '../blobs/shelves/digest-files.ts';
import { storeFault } from '../blobs/files/store-fault.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import type { Logger } from '../telemetry/logger.ts';
import { INDEX_FORMAT_VERSION } from '../index/index-footer.ts';
import { filesOfUnfinishedIndex } from '../index/index-writer.ts';
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
  /** With its published name. */
  readonly index: LayerIndex;
  /** True if another replica had shared the same index. */
  readonly isConfirmed: boolean;
}

const NO_ZTOC = new Uint8Array(0);

/**
 * Complete indexes on disk, and in the tier that replicas share. An index and its zTOC are published
 * together: the zTOC is stored first, and then the index is renamed; in the shared tier both are one value.
 * So an index that can be found has its zTOC. An index that does not fit the configuration, or has lost its
 * zTOC, counts as missing; it stays until another replaces it.
 */
export class LayerIndexFiles {
  readonly #deps: LayerIndexFilesDeps;
  /** Publications and evictions in progress. */
  readonly #turns = new Map<Digest, Promise<unknown>>();
  /** zTOCs that may belong to no index, while {@link sweep} looks for such. */
  #orphans = new Set<Digest>();

  constructor(deps: LayerIndexFilesDeps) {
    this.#deps = deps;
  }

  /** A new path to write an index of a layer to, and the name that {@link publish} gives it. */
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

  /** A stored index that fits the configuration, from this replica or another one. */
  async load(digest: Digest): Promise<LayerIndex | undefined> {
    const index = await this.#open(digest);
    if (index === undefined) return this.loadShared(digest);
    this.#deps.shared?.keep?.(this.sharedKey(digest), () => this.#encodeStored(digest, index.summary));
    return index;
  }

  /** As {@link load}, but one of another replica, which replaces a stored one. */
  async loadShared(digest: Digest): Promise<LayerIndex | undefined> {
    const isThere = await this.#inTurn(digest, () => this.#fetchShared(digest));
    return isThere ? this.#open(digest) : undefined;
  }

  /**
   * Stores the zTOC of a new index, renames the index, and shares both. Moves the file that the index was
   * written to.
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

  /** Marks the index as recently used, for eviction. */
  noteUse(digest: Digest): void {
    this.#deps.files.noteUse(digest);
  }

  /** Removes an index, and then its zTOC. A reader that uses it finds it gone and has it rebuilt. */
  evict(digest: Digest): Promise<void> {
    return this.#inTurn(digest, async () => {
      const { files, ztocs, logger } = this.#deps;
      const index = await LayerIndex.open(files.path(digest)).catch((error: unknown) => {
        logger.debug({ layer: digest, err: error }, 'an index to be evicted cannot be read');
        return undefined;
      });
      await files.remove(digest);
      const ztoc = index?.summary.ztoc;
      if (ztoc !== undefined) await ztocs.remove(ztoc.digest);
    });
  }

  /**
   * Removes zTOCs without an index, which remain after a killed process or a build with another span size.
   * Removes nothing if an index cannot be read.
   * @param found the content of the store before anything was published
   * @returns how many were removed
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

  /**
   * The zTOC of a stored index; `undefined` if the index is damaged or gone.
   * @throws SpandrelError STORE_FAILED
   */
  async #findZtoc(layer: Digest): Promise<Digest | undefined> {
    try {
      return (await LayerIndex.readSummary(this.#deps.files.path(layer))).ztoc?.digest;
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT' || isSpandrelError(error, 'INDEX_MALFORMED')) return undefined;
      throw error;
    }
  }

  /** Serializes publications and evictions of a layer, so that no index exists without its zTOC. */
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

  /** As replicas share it. @throws SpandrelError STORE_FAILED */
  async #encodeStored(digest: Digest, { ztoc }: LayerSummary): Promise<Uint8Array | undefined> {
    const { files, ztocs } = this.#deps;
    const index = await files.read(digest);
    const stored = ztoc === undefined ? NO_ZTOC : await ztocs.readCompressed(ztoc.digest);
    return index && stored && encodeSharedIndex({ index, ztoc: stored });
  }

  /**
   * Never fails: the index is already stored.
   * @returns true if another replica had shared the same index
   */
  async #share(digest: Digest, ztoc: Uint8Array): Promise<boolean> {
    const { shared, files, logger } = this.#deps;
    try {
      const index = shared && (await files.read(digest));
      if (shared === undefined || index === undefined) return false;
      const [key, value] = [this.sharedKey(digest), encodeSharedIndex({ index, ztoc })];
      const known = await shared.get(key);
      if (known !== undefined && value.equals(known.bytes)) return true;
      await shared.set(key, value);
    } catch (error) {
      logger.warn({ err: error, layer: digest }, 'an index cannot be shared with other replicas');
    }
    return false;
  }

  /** Call when the index of a layer cannot be written. */
  noteWriteFailure(error: unknown): void {
    this.#deps.files.noteWriteFailure(error);
  }

  /** Removes the files of an unpublished index, if they exist. */
  async drop(path: string): Promise<void> {
    for (const file of filesOfUnfinishedIndex(path)) await this.#deps.files.discard(file);
  }

  async #open(digest: Digest): Promise<LayerIndex | undefined> {
    const { files, spanBytes, readSpanBytes, maxTocBytes, logger } = this.#deps;
    try {
      const index = await LayerIndex.open(files.path(digest));
      const { summary } = index;
      // An index with other span sizes, or refused by another limit, is rebuilt.
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

  /**
   * The zTOC of an index, if the layer has one and it is stored.
   * @throws SpandrelError STORE_FAILED
   */
  async readZtoc({ ztoc }: LayerSummary): Promise<Uint8Array | undefined> {
    return ztoc && this.#deps.ztocs.read(ztoc.digest);
  }

  /** True if the zTOC is stored, or if the layer has none. */
  async hasZtoc({ ztoc }: LayerSummary): Promise<boolean> {
    return ztoc === undefined || (await this.#deps.ztocs.has(ztoc.digest));
  }

  /**
   * Stores an index that another replica has built, if the tier is authentic. Otherwise the index is built
   * here, and then compared.
   */
  async #fetchShared(digest: Digest): Promise<boolean> {
    const { shared, ztocs, files } = this.#deps;
    if (shared?.isAuthentic !== true) return false;
    const key = this.sharedKey(digest);
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

  /** Name of an index in the shared tier: of the layer and all settings that its bytes depend on. */
  sharedKey(digest: Digest): string {
    const { spanBytes, readSpanBytes } = this.#deps;
    return `layer-index:${INDEX_FORMAT_VERSION}:${spanBytes}:${readSpanBytes}:${digest}`;
  }
}
