import { extname } from 'node:path';

import type { Digest } from '../core/digest.ts';
import { WorkerPool } from '../threads/worker-pool.ts';
import type * as demoImageTasks from './demo-image-worker.ts';

/** Seed of the embedded demo image. */
export const DEMO_SEED = 'spandrel';

export interface DemoImageOptions {
  /** The same seed, scale and Node version give the same digests. */
  readonly seed: string;
  /**
   * Factor on the number of files and the size of large ones, above 0; default 1: about 40 MB, three layers
   * above 10 MiB.
   */
  readonly scale?: number;
}

/** Content that a registry stores by its digest. */
export interface DemoContent {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface DemoLayer {
  /** Name of the layer: `base`, `dependencies`, `configuration`, `assets`, `pages`, `program`. */
  readonly name: string;
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly mediaType: string;
  /** Compressed bytes. */
  readonly size: number;
  readonly uncompressedBytes: number;
  /** Members of the tar. */
  readonly entries: number;
}

/** A file of the merged file system, with its expected content. */
export interface DemoFile {
  readonly path: string;
  readonly layer: Digest;
  readonly size: number;
  /** SHA-256 of the file, in hex. */
  readonly sha256: string;
}

/** An image for linux/amd64 and linux/arm64, which share all layers but `configuration`. */
export interface DemoImage {
  /** Layers and configs. */
  readonly blobs: readonly DemoContent[];
  /** The image manifests, then the index that lists them. */
  readonly manifests: readonly DemoContent[];
  /** Tags of the index. */
  readonly tags: readonly string[];
  /** Digest of the index. */
  readonly digest: Digest;
  /** The layers of linux/amd64, lowest first. */
  readonly layers: readonly DemoLayer[];
  /** Compressed bytes of these layers, which a pull transfers. */
  readonly compressedBytes: number;
  readonly files: {
    /** A few hundred KiB in the middle of the base layer. */
    readonly middle: DemoFile;
    /** Begins in one 4 MiB span of the dependencies and ends several spans later. */
    readonly spanning: DemoFile;
    /** A few hundred bytes in the top layer; replaces a file of a lower layer. */
    readonly program: DemoFile;
    /** Most of the top layer. */
    readonly model: DemoFile;
  };
}

/**
 * Generates a realistic image, in a thread: gzip, zstd and plain tar layers, thousands of files, links of
 * both kinds, whiteouts, PAX names.
 */
export async function generateDemoImage(options: DemoImageOptions): Promise<DemoImage> {
  const entry = new URL(`./demo-image-worker${extname(import.meta.url)}`, import.meta.url);
  await using pool = new WorkerPool<typeof demoImageTasks>({
    entry,
    name: 'demo',
    threads: 1,
    maxQueue: 0,
  });
  return await pool.tasks.buildDemoImage(options);
}
