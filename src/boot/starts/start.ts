import type { Digest } from '../../core/digest.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { RangeRead } from './range-read.ts';

/** Why a start is over: nothing was read, it was long enough, or the background fetcher began. */
export type StartEnd = 'silence' | 'limit' | 'walk';

/** A start of a container: a node mounts layers of an image and reads what the container needs. */
export interface Start {
  /** As `targetKey`. */
  readonly repository: string;
  /** Milliseconds since 1970, as `steadyNow`. */
  readonly beganAtMs: number;
  /** The blobs that were mounted. */
  readonly mounted: readonly MountedBlob[];
  /** In the order of the requests. */
  readonly reads: readonly RangeRead[];
  /** The node has read more than is kept. */
  readonly isCut: boolean;
  readonly end: StartEnd;
  /** The files of a boot layer that the node got. */
  readonly servedPaths: readonly RawText[];
}

export interface MountedBlob {
  /** A layer, or its tar. */
  readonly digest: Digest;
  readonly layer: Digest;
}
