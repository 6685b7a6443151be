import type { PlatformDescription } from '../../../images/operations/image-overview.ts';

const ZTOC_TYPE = 'application/octet-stream';
const LAYER_ANNOTATION = 'com.amazon.soci.image-layer-digest';

/** How much of an image nodes read by spans, by its SOCI index. A layer that is listed twice counts twice. */
export interface LazyShare {
  readonly layers: { readonly lazy: number; readonly total: number };
  /** Compressed. */
  readonly bytes: { readonly lazy: number; readonly total: number };
  /** Digests, as in the original manifest, of the layers that the SOCI index lists. */
  readonly lazyLayers: ReadonlySet<string>;
}

interface IndexManifest {
  readonly layers?: readonly {
    readonly mediaType?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  }[];
}

/**
 * Counts the layers of a platform that its SOCI index lists.
 * @param index digest of the SOCI index; `undefined` if there is none
 * @param readManifest by digest, from the repository of the image
 */
export async function readLazyShare(
  { layers }: Pick<PlatformDescription, 'layers'>,
  index: string | undefined,
  readManifest: (digest: string) => Promise<Response>,
): Promise<LazyShare> {
  const listed = index === undefined ? new Set() : await readListed(await readManifest(index));
  const sum = (counted: typeof layers): number => counted.reduce((bytes, { size }) => bytes + (size ?? 0), 0);
  const lazy = layers.filter(({ digest, tar }) => listed.has(tar?.digest ?? digest));
  return {
    layers: { lazy: lazy.length, total: layers.length },
    bytes: { lazy: sum(lazy), total: sum(layers) },
    lazyLayers: new Set(lazy.map(({ digest }) => digest)),
  };
}

/** Share of the bytes, 0 to 1. */
export function coverage({ bytes }: Pick<LazyShare, 'bytes'>): number {
  return bytes.total === 0 ? 0 : bytes.lazy / bytes.total;
}

async function readListed(manifest: Response): Promise<ReadonlySet<unknown>> {
  const { layers = [] } = (await manifest.json()) as IndexManifest;
  const ztocs = layers.filter(({ mediaType }) => mediaType === ZTOC_TYPE);
  return new Set(ztocs.map(({ annotations }) => annotations?.[LAYER_ANNOTATION]));
}
