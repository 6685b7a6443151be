import { chooseTarSpanBytes } from '../../build/tar/tar-span-bytes.ts';
import type { ByteCache, CacheHit } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import { type InflatableSummary, isInflatable } from '../../layers/tar-ztocs.ts';
import { isLayerFault } from '../../layers/proven-fault.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { type IndexPolicies, servesTars, type TarSpanSizes } from './index-policy.ts';
import type { Layers } from './layers.ts';
import { parseTarRecord, type TarCoding, type TarRecord, type TarRecords } from '../proofs/tar-records.ts';
import type { TarSearch } from './tar-search.ts';

export interface TarLayersDeps {
  readonly records: TarRecords;
  readonly search: TarSearch;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly spanSetting: TarSpanSizes;
  readonly policies: IndexPolicies;
  /** Where replicas share the records. */
  readonly shared: ByteCache | undefined;
}

const KEY_PREFIX = 'tar:1:';

/**
 * Which layer of a repository a diffID stands for. A tag's response names it to nodes, which may ask any
 * replica, long after that.
 */
export class TarLayers {
  readonly #deps: TarLayersDeps;

  constructor(deps: TarLayersDeps) {
    this.#deps = deps;
  }

  /** As far as this replica knows. It says nothing about who may have them. */
  known(target: Target, diffId: Digest): readonly TarRecord[] {
    return this.#deps.records.find(target, diffId);
  }

  /**
   * As {@link known}, or as another replica knows, or as the configs of the repository's tags claim and the
   * bytes prove.
   * @throws SpandrelError if that is not known now
   */
  async find(target: Target, diffId: Digest, signal: AbortSignal): Promise<readonly TarRecord[]> {
    const known = this.known(target, diffId);
    if (known.length > 0) this.#keep(target, diffId, known);
    if (known.length > 0 || !this.mayHaveTars(target)) return known;
    for (const record of await this.#findShared(target, diffId)) this.#deps.records.put(target, record);
    const shared = this.known(target, diffId);
    if (shared.length > 0) return shared;
    for (const layer of await this.#deps.search.run(target, diffId, signal))
      await this.#prove(target, diffId, layer, signal);
    return this.known(target, diffId);
  }

  /** True if tags of the repository name tars, or have done so. */
  mayHaveTars(target: Target): boolean {
    const { policies, records } = this.#deps;
    return servesTars(policies.of(target)) || records.knows(target);
  }

  /** Call before the tar is named to a client. */
  async publish(target: Target, record: TarRecord): Promise<void> {
    const { records, shared } = this.#deps;
    const known = this.known(target, record.diffId);
    if (known.some(({ layer }) => layer === record.layer)) return this.#keep(target, record.diffId, known);
    records.put(target, record);
    const all = this.known(target, record.diffId);
    await shared?.set(sharedKey(target, record.diffId), Buffer.from(JSON.stringify(all)));
  }

  /** Nodes may ask for the tar as long as they have containers of the image. */
  #keep(target: Target, diffId: Digest, known: readonly TarRecord[]): void {
    this.#deps.shared?.keep?.(sharedKey(target, diffId), () => Buffer.from(JSON.stringify(known)));
  }

  forget(target: Target, record: TarRecord): void {
    this.#deps.records.delete(target, record);
  }

  /** What is to be recorded of a layer, whose span size is that of the first response that named its tar. */
  async describe(target: Target, { layerDigest: layer, ...summary }: InflatableSummary): Promise<TarRecord> {
    const { diffId, uncompressedBytes: tarBytes } = summary;
    const known = this.known(target, diffId);
    const [first] = known.length > 0 ? known : await this.#findShared(target, diffId);
    const spanBytes =
      first?.spanBytes ?? chooseTarSpanBytes(await this.#deps.spanSetting.of(target), tarBytes);
    const record = { diffId, layer, tarBytes, spanBytes, coding: codingOf(summary) };
    if (first !== undefined) return record;
    const faster = await this.#shareNew(target, record);
    return faster === undefined ? record : { ...record, spanBytes: faster.spanBytes };
  }

  async #prove(target: Target, diffId: Digest, layer: Digest, signal: AbortSignal): Promise<void> {
    const { layers, indexes } = this.#deps;
    try {
      const authorized = await layers.authorizedLayer(target, layer, signal);
      const { summary } = await indexes.ensure(authorized, signal);
      if (isInflatable(summary) && summary.diffId === diffId)
        await this.publish(target, await this.describe(target, summary));
    } catch (error) {
      // The config names a layer that the registry lacks, or one that is no layer.
      if (!isSpandrelError(error) || !(error.code === 'BLOB_UNKNOWN' || isLayerFault(error.code)))
        throw error;
    }
  }

  /** Without a key, anybody could have written the entry. */
  async #findShared(target: Target, diffId: Digest): Promise<readonly TarRecord[]> {
    const { shared } = this.#deps;
    if (shared?.isAuthentic !== true) return [];
    return parseShared(await shared.get(sharedKey(target, diffId)), diffId);
  }

  /** Replicas that describe a tar at the same time agree on its spans. @returns the record that was first */
  async #shareNew(target: Target, record: TarRecord): Promise<TarRecord | undefined> {
    const { shared } = this.#deps;
    if (shared?.isAuthentic !== true) return undefined;
    const bytes = Buffer.from(JSON.stringify([record]));
    return parseShared(await shared.setNew(sharedKey(target, record.diffId), bytes), record.diffId)[0];
  }
}

function parseShared(hit: CacheHit | undefined, diffId: Digest): readonly TarRecord[] {
  const json = hit && tryParseJson(Buffer.from(hit.bytes).toString());
  const found = Array.isArray(json) ? json : [];
  const records = found.flatMap((value) => (isJsonObject(value) ? (parseTarRecord(value) ?? []) : []));
  return records.filter((record) => record.diffId === diffId);
}

function sharedKey(target: Target, diffId: Digest): string {
  return `${KEY_PREFIX}${targetKey(target)}:${diffId}`;
}

/** Go refuses a gzip stream that the snapshotter cannot use; no zTOC is no fault of the stream. */
function codingOf({ compression, reason }: Omit<InflatableSummary, 'layerDigest'>): TarCoding | undefined {
  return compression === 'none' || reason?.code === 'INDEX_UNMOUNTABLE' ? undefined : compression;
}
