import type { Descriptor } from '../core/descriptor.ts';
import { layerCompression } from '../core/layer-compression.ts';
import type { LayerCompression } from '../core/media-types.ts';

/**
 * The compression that `soci` assumes of a layer, from its media type alone (containerd
 * `core/images/diffids.go`, DiffCompression, and soci-snapshotter `soci/soci_index.go`); `undefined` if
 * `soci` does not index the layer.
 */
export function sociCompression(mediaType: string): Extract<LayerCompression, 'gzip' | 'none'> | undefined {
  const compression = layerCompression(mediaType);
  // `soci` skips encrypted Docker layers and uncompressed non-distributable ones.
  return compression === 'zstd' ? undefined : compression;
}

export type SkipReason = 'unsupported_format' | 'too_small';

/**
 * Why `soci` leaves a layer out of an index; `undefined` if it indexes the layer. Label of
 * `index_layers_skipped_total`.
 */
export function skipReason(layer: Descriptor, minLayerBytes: number): SkipReason | undefined {
  if (sociCompression(layer.mediaType) === undefined) return 'unsupported_format';
  return layer.size < minLayerBytes ? 'too_small' : undefined;
}

/** As {@link skipReason}, for an index over the tars of layers, where zstd layers have a place too. */
export function tarSkipReason(layer: Descriptor, minLayerBytes: number): SkipReason | undefined {
  if (layerCompression(layer.mediaType) === undefined) return 'unsupported_format';
  return layer.size < minLayerBytes ? 'too_small' : undefined;
}
