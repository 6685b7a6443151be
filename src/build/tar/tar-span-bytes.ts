import type { LayerCompression } from '../../core/media-types.ts';

/** Span size of zTOCs over decompressed layers: bytes, or by the size of the tar. */
export type TarSpanBytes = number | 'auto';

/**
 * Spans of `auto`. A node fetches in the background one span per 500 ms, whatever its size (soci-snapshotter
 * `config/defaults.go`), so larger tars have larger spans: 2048 of them take a node 17 minutes. Within that
 * bound, spans are small, as a small read fetches a whole one.
 */
const AUTO: readonly { readonly spanBytes: number; readonly maxTarBytes: number }[] = [
  { spanBytes: 2 ** 18, maxTarBytes: 2 ** 29 },
  { spanBytes: 2 ** 20, maxTarBytes: 2 ** 31 },
  { spanBytes: 2 ** 22, maxTarBytes: Number.POSITIVE_INFINITY },
];

/** Layers of programs and libraries inflate to two or three times their size, rarely to more than this. */
const USUAL_RATIO = 8;

/** The span size for a tar of this size. It depends on nothing else, so it is the same on all replicas. */
export function chooseTarSpanBytes(setting: TarSpanBytes, tarBytes: number): number {
  if (setting !== 'auto') return setting;
  const chosen = AUTO.find(({ maxTarBytes }) => tarBytes <= maxTarBytes);
  return chosen?.spanBytes ?? 0;
}

/** The span sizes that {@link chooseTarSpanBytes} may choose for a layer whose tar is not known yet. */
export function likelyTarSpanBytes(
  setting: TarSpanBytes,
  layerBytes: number,
  compression: LayerCompression,
): readonly number[] {
  if (setting !== 'auto') return [setting];
  const most = compression === 'none' ? layerBytes : USUAL_RATIO * layerBytes;
  const [least, largest] = [chooseTarSpanBytes(setting, layerBytes), chooseTarSpanBytes(setting, most)];
  return AUTO.map(({ spanBytes }) => spanBytes).filter((bytes) => bytes >= least && bytes <= largest);
}

/** All that {@link chooseTarSpanBytes} may choose. */
export function possibleTarSpanBytes(setting: TarSpanBytes): readonly number[] {
  return setting === 'auto' ? AUTO.map(({ spanBytes }) => spanBytes) : [setting];
}
