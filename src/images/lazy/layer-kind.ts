import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import type { LayerSummary, NoZtocReason } from '../../index/layer-summary.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { SkipReason } from '../../soci/skip-reason.ts';
import type { PrefetchArtifact, SociLayer } from '../../soci/soci-index.ts';
import type { Target } from '../../upstream/target.ts';
import type { ImageManifest } from '../documents/parse-manifest.ts';
import type { TarRecord } from '../proofs/tar-records.ts';
import type { LayerOrigin } from '../proofs/origins.ts';
import type { PrefetchKey, SociLayers } from '../proofs/prefetch-record.ts';

/** A layer of an image, with its place among the layers of the manifest. */
export interface PlacedLayer {
  readonly layer: Descriptor;
  readonly place: number;
}

/** A layer in a SOCI index. */
export interface IndexedLayer {
  readonly place: number;
  /** The registry's layer. */
  readonly original: Digest;
  /** The layer as the image names it in the tag's response. */
  readonly soci: SociLayer;
  /** Present if the tar of the layer takes its place. */
  readonly tar?: TarRecord;
  /** Where its zTOC comes from. */
  readonly origin: LayerOrigin;
}

/** An image whose layers are to be indexed. */
export interface LayeredImage {
  readonly target: Target;
  readonly image: ImageManifest;
}

/** What stands in a SOCI index for a layer: the layer itself, or its tar. */
export interface LayerKind {
  readonly name: SociLayers;
  /** Why the manifest alone keeps a layer out of the index; `undefined` if it does not. */
  skip(layer: Descriptor, minLayerBytes: number): SkipReason | undefined;
  /**
   * Builds what {@link describe} needs of a layer that has an index.
   * @throws SpandrelError of fills and builds
   */
  build(from: LayeredImage, placed: PlacedLayer): Promise<void>;
  /**
   * A layer that has an index, or why it is left out; `undefined` if {@link build} must come first.
   * @throws SpandrelError if that is not known now
   */
  describe(
    from: LayeredImage,
    placed: PlacedLayer & { readonly authorized: AuthorizedLayer },
    summary: LayerSummary,
  ): Promise<IndexedLayer | NoZtocReason | undefined>;
  /** Call before an index that lists the layer is named to a client. */
  publish(target: Target, layer: IndexedLayer): Promise<void>;
}

/** Decides which prefetch artifacts SOCI indexes list. */
export interface Prefetches {
  /** Those of an image, in the order of the layers. An answer that was given does not change. */
  of(target: Target, key: PrefetchKey, layers: readonly IndexedLayer[]): Promise<readonly PrefetchArtifact[]>;
}
