import type { Descriptor } from '../core/descriptor.ts';
import { layerCompression } from '../core/layer-compression.ts';
import type { LayerCompression } from '../core/media-types.ts';

/**
 * How `soci` takes a layer to be packed, from its media type alone (containerd `core/images/diffids.go`, DiffCompression, and
 * soci-snapshotter `soci/soci_index.go`); `undefined` for what it does not index.
 */
export function sociCompression(mediaType: string): Extract<LayerCompression, 'gzip' | 'none'> | undefined {
  const compression = layerCompression(mediaType);
  // Wrapped (encrypted) Docker layers and uncompressed non-distributable ones are skipped.
  return compression === 'zstd' ? undefined : compression;
}

/** Why `soci` leaves a layer out of an index; `undefined` if it does not. Label of `index_layers_skipped_total`. */
export function skipReason(
  layer: Descriptor,
  minLayerBytes: number,
): 'unsupported_format' | 'too_small' | undefined {
  if (sociCompression(layer.mediaType) === undefined) return 'unsupported_format';
  return layer.size < minLayerBytes ? 'too_small' : undefined;
}
