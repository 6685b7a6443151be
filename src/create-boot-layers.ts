import { join } from 'node:path';

import { BootBlobs, type BootBlobsDeps } from './images/boot/boot-blobs.ts';
import { BootLayers, type BootLayersDeps } from './images/boot/boot-layers.ts';
import { imageTreeSizes } from './images/files/image-trees.ts';
import { BootRecords, type BootRecordsOptions } from './images/proofs/boot-records.ts';

export type CreateBootLayersDeps = Omit<BootLayersDeps, 'records' | 'bootBlobs' | 'maxTreeBytes'> &
  BootBlobsDeps &
  BootRecordsOptions & {
    /** Disposes of the records. */
    readonly opening: AsyncDisposableStack;
    /** Folder of the store. */
    readonly root: string;
    /** `cache.memoryBytes`. */
    readonly memoryBytes: number;
  };

export interface CreatedBootLayers {
  readonly bootRecords: BootRecords;
  readonly bootBlobs: BootBlobs;
  readonly bootLayers: BootLayers;
}

/** Creates the parts that decide about boot layers, make them, and remember them. */
export function createBootLayers(deps: CreateBootLayersDeps): CreatedBootLayers {
  const { opening, root, memoryBytes } = deps;
  const bootRecords = opening.use(BootRecords.open(join(root, 'records', 'boots'), deps));
  const bootBlobs = new BootBlobs(deps);
  const { maxMakingBytes: maxTreeBytes } = imageTreeSizes(memoryBytes);
  const bootLayers = new BootLayers({ ...deps, records: bootRecords, bootBlobs, maxTreeBytes });
  return { bootRecords, bootBlobs, bootLayers };
}
