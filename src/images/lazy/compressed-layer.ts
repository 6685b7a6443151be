import type { LayerSummary, NoZtocReason } from '../../index/layer-summary.ts';
import type { IndexedLayer, PlacedLayer } from './layer-kind.ts';

const NO_ZTOC: NoZtocReason = { code: 'INTERNAL', message: 'the layer has no zTOC' };

/** A layer that stays as the registry has it, or why it has no zTOC. */
export function compressedLayer(
  { layer, place }: PlacedLayer,
  { ztoc, spanBytes, reason }: LayerSummary,
): IndexedLayer | NoZtocReason {
  if (ztoc === undefined) return reason ?? NO_ZTOC;
  const { digest: original } = layer;
  return { place, original, soci: { layer, spanBytes, ztoc }, origin: { kind: 'layer', layer: original } };
}
