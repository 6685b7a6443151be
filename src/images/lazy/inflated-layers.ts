import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { LayerSummary, NoZtocReason } from '../../index/layer-summary.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import { isInflatable, type TarZtocs } from '../../layers/tar-ztocs.ts';
import { tarSkipReason } from '../../soci/skip-reason.ts';
import type { Target } from '../../upstream/target.ts';
import { compressedLayer } from './compressed-layer.ts';
import { frameCost } from './frame-cost.ts';
import type { IndexedLayer, LayeredImage, LayerKind, PlacedLayer } from './layer-kind.ts';
import type { Layers } from './layers.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import type { TarLayers } from './tar-layers.ts';
import type { TarRecord } from '../proofs/tar-records.ts';

export interface InflatedLayersDeps {
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly configs: ImageConfigs;
  readonly tars: TarZtocs;
  readonly tarLayers: TarLayers;
  /** As `limits.maxSkippedBytes`. */
  readonly maxSkippedBytes: number;
}

/**
 * Layers whose tars take their places. A layer stays as it is if the config names another diffID, if its tar
 * cannot be mounted, or if a read of it would cost too much: a zstd frame can only be read from its start.
 */
export class InflatedLayers implements LayerKind {
  readonly #deps: InflatedLayersDeps;
  readonly name = 'tar';
  readonly skip = tarSkipReason;

  constructor(deps: InflatedLayersDeps) {
    this.#deps = deps;
  }

  async build(from: LayeredImage, placed: PlacedLayer): Promise<void> {
    const { layers, indexes, tars } = this.#deps;
    const { target } = from;
    const authorized = await layers.authorizedLayer(target, placed.layer.digest);
    const index = await indexes.ensure(authorized);
    const record = await this.#tarOf(from, placed, index.summary);
    if (record !== undefined) await tars.ensure(authorized, index, record.spanBytes);
  }

  async describe(
    from: LayeredImage,
    placed: PlacedLayer,
    summary: LayerSummary,
  ): Promise<IndexedLayer | NoZtocReason | undefined> {
    const costly = frameCost(summary, this.#deps.maxSkippedBytes);
    if (costly !== undefined) return costly;
    const record = await this.#tarOf(from, placed, summary);
    if (record === undefined || !isInflatable(summary)) return compressedLayer(placed, summary);
    const found = await this.#deps.tars.find(summary, record.spanBytes);
    if (found === undefined) return undefined;
    const { ztoc, reason } = found;
    if (ztoc === undefined)
      return summary.ztoc === undefined && reason !== undefined ? reason : compressedLayer(placed, summary);
    const { layer, place } = placed;
    const { diffId, spanBytes } = record;
    const origin = { kind: 'tar', layer: layer.digest, spanBytes } as const;
    const shared = { place, original: layer.digest, origin };
    // The tar is the layer: its media type may be Docker's.
    if (summary.compression === 'none') return { ...shared, soci: { layer, spanBytes, ztoc } };
    const tar = { digest: diffId, mediaType: MEDIA_TYPES.ociLayer };
    return { ...shared, tar: record, soci: { layer: tar, spanBytes, ztoc } };
  }

  async publish(target: Target, { tar }: IndexedLayer): Promise<void> {
    if (tar !== undefined) await this.#deps.tarLayers.publish(target, tar);
  }

  /** What is to be recorded of a layer whose tar may take its place. */
  async #tarOf(
    { target, image }: LayeredImage,
    { place }: PlacedLayer,
    summary: LayerSummary,
  ): Promise<TarRecord | undefined> {
    const { configs, tarLayers, maxSkippedBytes } = this.#deps;
    if (!isInflatable(summary) || frameCost(summary, maxSkippedBytes) !== undefined) return undefined;
    const { diffIds } = await configs.read(target, image.config);
    return diffIds?.[place] === summary.diffId ? tarLayers.describe(target, summary) : undefined;
  }
}
