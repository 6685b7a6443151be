import type { Descriptor } from '../core/descriptor.ts';
import type { LayerCompression } from '../core/media-types.ts';

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const OCI_LAYER_NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER_LAYERS = ['application/vnd.docker.image.rootfs.diff.tar', 'application/vnd.docker.image.rootfs.foreign.diff.tar'];

/**
 * How `soci` takes a layer to be packed, from its media type alone (containerd `core/images/diffids.go`, DiffCompression, and
 * soci-snapshotter `soci/soci_index.go`); `undefined` for what it does not index.
 */
export function sociCompression(mediaType: string): Extract<LayerCompression, 'gzip' | 'none'> | undefined {
  const compression = layerCompression(mediaType);
  // Wrapped (encrypted) Docker layers and uncompressed non-distributable ones are skipped.
  return compression === 'zstd' ? undefined : compression;
}

/** How a layer is packed by its media type; `undefined` if that does not say. */
export function layerCompression(mediaType: string): LayerCompression | undefined {
  const [base = '', ...suffixes] = mediaType.split('+');
  if (base === OCI_LAYER || base === OCI_LAYER_NONDISTRIBUTABLE) {
    const last = suffixes.toSorted().at(-1);
    if (last === 'gzip' || last === 'zstd') return last;
    return base === OCI_LAYER && suffixes.length === 0 ? 'none' : undefined;
  }
  if (suffixes.length > 0) return undefined;
  for (const docker of DOCKER_LAYERS) {
    if (base === docker) return 'none';
    if (base === `${docker}.gzip`) return 'gzip';
    if (base === `${docker}.zstd`) return 'zstd';
  }
  return undefined;
}

/** Why `soci` leaves a layer out of an index; `undefined` if it does not. Label of `index_layers_skipped_total`. */
export function skipReason(layer: Descriptor, minLayerBytes: number): 'unsupported_format' | 'too_small' | undefined {
  if (sociCompression(layer.mediaType) === undefined) return 'unsupported_format';
  return layer.size < minLayerBytes ? 'too_small' : undefined;
}
