import type { LayerCompression } from './media-types.ts';

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const OCI_LAYER_NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER_LAYERS = [
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.foreign.diff.tar',
];

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
