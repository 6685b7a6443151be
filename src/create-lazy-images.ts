import { LearningLayers, type LearningLayersDeps } from './images/boot/learning-layers.ts';
import { DerivedImages, type DerivedImagesDeps } from './images/lazy/derived-images.ts';
import { ConvertedImages, type ConvertedImagesDeps } from './images/lazy/converted-images.ts';
import { ImagePlans, type ImagePlansDeps } from './images/lazy/image-plans.ts';
import { LazyImages, type LazyImagesDeps } from './images/lazy/lazy-images.ts';
import { LostDocuments, type LostDocumentsDeps } from './images/lazy/lost-documents.ts';
import { SociIndexer, type SociIndexerDeps } from './images/lazy/soci-indexer.ts';
import { InflatedLayers, type InflatedLayersDeps } from './images/lazy/inflated-layers.ts';
import { TarLayers, type TarLayersDeps } from './images/lazy/tar-layers.ts';
import { TarSearch } from './images/lazy/tar-search.ts';
import { ImageManifests } from './images/manifests/image-manifests.ts';
import { RepositoryTags } from './images/manifests/repository-tags.ts';
import type { ServedImages } from './images/manifests/served-images.ts';

/** The parts that these need, without those that they make for each other. */
export type CreateLazyImagesDeps = Omit<
  ConvertedImagesDeps &
    DerivedImagesDeps &
    ImagePlansDeps &
    InflatedLayersDeps &
    LazyImagesDeps &
    LostDocumentsDeps &
    LearningLayersDeps &
    SociIndexerDeps &
    TarLayersDeps,
  | 'kind'
  | 'indexer'
  | 'inflatedIndexer'
  | 'lazyImages'
  | 'derivedImages'
  | 'images'
  | 'plans'
  | 'converted'
  | 'tags'
  | 'search'
  | 'tarLayers'
> & { readonly servedImages: ServedImages };

export interface CreatedLazyImages {
  readonly tarLayers: TarLayers;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly lazyImages: LazyImages;
  readonly lostDocuments: LostDocuments;
}

/** Creates the parts that answer tags with indexed images, and find again what such responses name. */
export function createLazyImages(deps: CreateLazyImagesDeps): CreatedLazyImages {
  const { manifests, configs, servedImages } = deps;
  const images = new ImageManifests({ manifests, configs });
  const tags = new RepositoryTags(servedImages);
  const tarLayers = new TarLayers({ ...deps, search: new TarSearch({ ...deps, images, tags }) });
  const indexer = new SociIndexer({ ...deps, kind: new LearningLayers(deps) });
  const inflatedIndexer = new SociIndexer({ ...deps, kind: new InflatedLayers({ ...deps, tarLayers }) });
  const lazily = { ...deps, indexer, inflatedIndexer, tarLayers };
  const plans = new ImagePlans({ ...deps, images });
  const converted = new ConvertedImages({ ...lazily, images });
  const lazyImages = new LazyImages({ ...lazily, plans, converted });
  const derivedImages = new DerivedImages({ ...lazily, lazyImages, tags });
  const lostDocuments = new LostDocuments({ ...deps, derivedImages });
  return { tarLayers, indexer, inflatedIndexer, lazyImages, lostDocuments };
}
