import type { LayerCompression } from '../../core/media-types.ts';

/**
 * Span size of zTOCs over decompressed layers: bytes, or by the size of the tar; `fine`: a quarter of that,
 * to tell which files starts read.
 */
export type TarSpanBytes = number | 'auto' | 'fine';

/**
 * Spans of `auto`. 256 KiB start containers soonest where a round trip takes 5 or 20 ms, and with 0.5 ms
 * nearly so (docs/lazy-nodes.md). But a node fetches in the background one span per 500 ms, whatever its size
 * (soci-snapshotter `config/defaults.go`), so larger tars have larger spans: 4096 of them take 34 minutes.
 */
const AUTO: readonly { readonly spanBytes: number; readonly maxTarBytes: number }[] = [
  { spanBytes: 2 ** 18, maxTarBytes: 2 ** 30 },
  { spanBytes: 2 ** 20, maxTarBytes: 2 ** 32 },
  { spanBytes: 2 ** 22, maxTarBytes: Number.POSITIVE_INFINITY },
];

/**
 * Spans of 64 KiB hold a few files, those of 256 KiB dozens: of 939 files that a start seemed to read whole,
 * 157 were, with 64 KiB 148 of 371 (docs/lazy-nodes.md).
 */
const FINER = 4;

/** Layers of programs and libraries inflate to two or three times their size, rarely to more than this. */
const USUAL_RATIO = 8;

/** The span size for a tar of this size. It depends on nothing else, so it is the same on all replicas. */
export function chooseTarSpanBytes(setting: TarSpanBytes, tarBytes: number): number {
  if (typeof setting === 'number') return setting;
  const chosen = sizesOf(setting).find(({ maxTarBytes }) => tarBytes <= maxTarBytes);
  return chosen?.spanBytes ?? 0;
}

/** The span sizes that {@link chooseTarSpanBytes} may choose for a layer whose tar is not known yet. */
export function likelyTarSpanBytes(
  setting: TarSpanBytes,
  layerBytes: number,
  compression: LayerCompression,
): readonly number[] {
  if (typeof setting === 'number') return [setting];
  const most = compression === 'none' ? layerBytes : USUAL_RATIO * layerBytes;
  const [least, largest] = [chooseTarSpanBytes(setting, layerBytes), chooseTarSpanBytes(setting, most)];
  return possibleTarSpanBytes(setting).filter((bytes) => bytes >= least && bytes <= largest);
}

/** All that {@link chooseTarSpanBytes} may choose. */
export function possibleTarSpanBytes(setting: TarSpanBytes): readonly number[] {
  return typeof setting === 'number' ? [setting] : sizesOf(setting).map(({ spanBytes }) => spanBytes);
}

function sizesOf(setting: 'auto' | 'fine'): typeof AUTO {
  if (setting === 'auto') return AUTO;
  return AUTO.map(({ spanBytes, maxTarBytes }) => ({ spanBytes: spanBytes / FINER, maxTarBytes }));
}
