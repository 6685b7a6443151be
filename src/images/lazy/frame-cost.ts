import { type LayerSummary, type NoZtocReason, streamFault } from '../../index/layer-summary.ts';

/**
 * Why nodes get a zstd layer as it is, not its tar: a frame can only be read from its start, and a read far
 * into this one would decompress more than one request may. `undefined` if reads cost less, or the stream is
 * damaged.
 * @param maxSkippedBytes as `limits.maxSkippedBytes`
 */
export function frameCost(summary: LayerSummary, maxSkippedBytes: number): NoZtocReason | undefined {
  const { maxSkippedBytes: cost } = summary;
  if (streamFault(summary) !== undefined || cost <= maxSkippedBytes) return undefined;
  const message =
    `a read of its largest zstd frame decompresses up to ${cost} bytes before its range; ` +
    `limits.maxSkippedBytes allows ${maxSkippedBytes}`;
  return { code: 'RANGE_TOO_COSTLY', message };
}
