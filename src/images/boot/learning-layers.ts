import type { LayerSummary, NoZtocReason } from '../../index/layer-summary.ts';
import type { FineZtocs } from '../../layers/fine-ztocs.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import { skipReason } from '../../soci/skip-reason.ts';
import { compressedLayer } from '../lazy/compressed-layer.ts';
import type { IndexedLayer, LayeredImage, LayerKind, PlacedLayer } from '../lazy/layer-kind.ts';
import type { Layers } from '../lazy/layers.ts';
import type { LayerSpans } from '../proofs/layer-spans.ts';
import type { SpanSetting } from './span-setting.ts';

export interface LearningLayersDeps {
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly fineZtocs: FineZtocs;
  readonly layerSpans: LayerSpans;
  readonly spanSetting: SpanSetting;
}

/**
 * Layers as the registry has them, with zTOCs of finer spans while their repository is to learn what starts
 * read.
 */
export class LearningLayers implements LayerKind {
  readonly #deps: LearningLayersDeps;
  readonly name = 'layer';
  readonly skip = skipReason;

  constructor(deps: LearningLayersDeps) {
    this.#deps = deps;
  }

  async build({ target }: LayeredImage, { layer }: PlacedLayer): Promise<void> {
    const { layers, indexes, fineZtocs, layerSpans, spanSetting } = this.#deps;
    if (!spanSetting.isForLayers(target) && layerSpans.known(target, layer.digest) === undefined) return;
    const authorized = await layers.authorizedLayer(target, layer.digest);
    const index = await indexes.ensure(authorized);
    const spanBytes = await this.#ownSpanBytes(target, index.summary);
    if (spanBytes !== undefined) await fineZtocs.ensure(authorized, index, spanBytes);
  }

  async describe(
    { target }: LayeredImage,
    placed: PlacedLayer,
    summary: LayerSummary,
  ): Promise<IndexedLayer | NoZtocReason | undefined> {
    const spanBytes = await this.#ownSpanBytes(target, summary);
    if (spanBytes === undefined) return compressedLayer(placed, summary);
    const { layer, place } = placed;
    const found = await this.#deps.fineZtocs.find(layer, spanBytes);
    if (found === undefined) return undefined;
    const { ztoc } = found;
    // With finer spans it may be too large.
    if (ztoc === undefined) return compressedLayer(placed, summary);
    const { digest: original } = layer;
    return {
      place,
      original,
      soci: { layer, spanBytes, ztoc },
      origin: { kind: 'layer', layer: original, spanBytes },
    };
  }

  /** Spans are decided before. */
  async publish(): Promise<void> {}

  /** The span size of the layer's zTOC in this repository, if it is not that of the layer's index. */
  async #ownSpanBytes(target: LayeredImage['target'], summary: LayerSummary): Promise<number | undefined> {
    const { layerSpans, spanSetting } = this.#deps;
    const { layerDigest, compression, ztoc, spanBytes: usual } = summary;
    if (compression !== 'gzip' || ztoc === undefined) return undefined;
    const wanted = layerSpans.known(target, layerDigest) ?? (await spanSetting.ofLayer(target, usual));
    const decided = wanted && (await layerSpans.decide(target, layerDigest, wanted));
    return decided === usual ? undefined : decided;
  }
}
