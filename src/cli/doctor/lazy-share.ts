import type { PlatformDescription } from '../../images/operations/image-overview.ts';
import { askProxy } from '../terminal/ask-proxy.ts';

const ZTOC_TYPE = 'application/octet-stream';
const LAYER_ANNOTATION = 'com.amazon.soci.image-layer-digest';

/** How much of an image nodes read by spans, by its SOCI index. A layer that is listed twice counts twice. */
export interface LazyShare {
  readonly layers: { readonly lazy: number; readonly total: number };
  /** Compressed. */
  readonly bytes: { readonly lazy: number; readonly total: number };
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
 * @throws SpandrelError the error of the proxy's response
 */
export async function readLazyShare(
  repositoryUrl: string,
  { layers }: Pick<PlatformDescription, 'layers'>,
  index: string | undefined,
  signal: AbortSignal,
): Promise<LazyShare> {
  const listed =
    index === undefined ? new Set() : await readListed(`${repositoryUrl}/manifests/${index}`, signal);
  const sum = (counted: typeof layers): number => counted.reduce((bytes, { size }) => bytes + (size ?? 0), 0);
  const lazy = layers.filter(({ digest }) => listed.has(digest));
  return {
    layers: { lazy: lazy.length, total: layers.length },
    bytes: { lazy: sum(lazy), total: sum(layers) },
  };
}

/** Share of the bytes, 0 to 1. */
export function coverage({ bytes }: LazyShare): number {
  return bytes.total === 0 ? 0 : bytes.lazy / bytes.total;
}

async function readListed(url: string, signal: AbortSignal): Promise<ReadonlySet<unknown>> {
  const { layers = [] } = (await (await askProxy(url, { signal })).json()) as IndexManifest;
  const ztocs = layers.filter(({ mediaType }) => mediaType === ZTOC_TYPE);
  return new Set(ztocs.map(({ annotations }) => annotations?.[LAYER_ANNOTATION]));
}
