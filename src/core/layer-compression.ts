import type { LayerCompression } from './media-types.ts';

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const OCI_LAYER_NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER_LAYERS = [
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.foreign.diff.tar',
];

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b, 0x08]);
/**
 * First bytes of a zstd frame: RFC 8878, section 3.1.1. A skippable frame (section 3.1.2) begins with 0x50 to
 * 0x5f and SKIPPABLE_MAGIC.
 */
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const SKIPPABLE_MAGIC = Buffer.from([0x2a, 0x4d, 0x18]);
/** Bytes that {@link detectCompression} needs. */
export const MAGIC_BYTES = 4;

/**
 * The compression of a layer, detected from its first {@link MAGIC_BYTES}, or from all of a shorter layer.
 * Without a known magic number it is a plain tar. The media type is ignored, as unpackers do, because some
 * images are labelled wrongly (containerd `pkg/archive/compression`, DetectCompression).
 */
export function detectCompression(head: Uint8Array): LayerCompression {
  const magic = Buffer.from(head.subarray(0, MAGIC_BYTES));
  if (magic.subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC)) return 'gzip';
  const isSkippable = (magic[0] ?? 0) >> 4 === 5 && magic.subarray(1).equals(SKIPPABLE_MAGIC);
  return magic.equals(ZSTD_MAGIC) || isSkippable ? 'zstd' : 'none';
}

/** The compression that a media type names; `undefined` if the type is not that of a layer. */
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
