import { join } from 'node:path';

import type { ByteCache } from './cache/byte-cache.ts';
import { BootBlobs, type BootBlobsDeps } from './images/boot/boot-blobs.ts';
import { BootLayers, type BootLayersDeps } from './images/boot/boot-layers.ts';
import { imageTreeSizes } from './images/files/image-trees.ts';
import { BootAnswers } from './images/proofs/boot-answers.ts';
import { LayerSpans } from './images/proofs/layer-spans.ts';
import { BootRecords } from './images/proofs/boot-records.ts';
import { ImagePrefetches, type ImagePrefetchesDeps } from './images/boot/image-prefetches.ts';
import { PrefetchAnswers } from './images/proofs/prefetch-answers.ts';
import { PrefetchRecords } from './images/proofs/prefetch-records.ts';
import type { RecordsOptions } from './blobs/shelves/record-file.ts';

export type CreateBootLayersDeps = Omit<BootLayersDeps, 'bootAnswers' | 'bootBlobs' | 'maxTreeBytes'> &
  BootBlobsDeps &
  Omit<ImagePrefetchesDeps, 'prefetchAnswers'> &
  RecordsOptions & {
    /** Disposes of the records. */
    readonly opening: AsyncDisposableStack;
    /** Folder of the store. */
    readonly root: string;
    /** Where replicas share what they have answered. */
    readonly shared: ByteCache | undefined;
    /** `cache.memoryBytes`. */
    readonly memoryBytes: number;
  };

export interface CreatedBootLayers {
  readonly bootAnswers: BootAnswers;
  readonly bootBlobs: BootBlobs;
  readonly layerSpans: LayerSpans;
  readonly bootLayers: BootLayers;
  readonly prefetchAnswers: PrefetchAnswers;
  readonly prefetches: ImagePrefetches;
}

/** Creates the parts that decide about boot layers and prefetch artifacts, make them, and remember them. */
export function createBootLayers(deps: CreateBootLayersDeps): CreatedBootLayers {
  const { opening, root, shared, memoryBytes } = deps;
  const records = opening.use(BootRecords.open(join(root, 'records', 'boots'), deps));
  const bootAnswers = new BootAnswers({ records, shared });
  const layerSpans = opening.use(LayerSpans.open(join(root, 'records', 'spans'), deps));
  const bootBlobs = new BootBlobs(deps);
  const { maxMakingBytes: maxTreeBytes } = imageTreeSizes(memoryBytes);
  const bootLayers = new BootLayers({ ...deps, bootAnswers, bootBlobs, maxTreeBytes });
  const prefetchRecords = opening.use(PrefetchRecords.open(join(root, 'records', 'prefetches'), deps));
  const prefetchAnswers = new PrefetchAnswers({ records: prefetchRecords, shared });
  const prefetches = new ImagePrefetches({ ...deps, prefetchAnswers });
  return { bootAnswers, bootBlobs, layerSpans, bootLayers, prefetchAnswers, prefetches };
}
