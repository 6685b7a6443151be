import { randomUUID } from 'node:crypto';

import type { BlobHandle } from '../blobs/blob-handle.ts';
import type { Platform } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { type ImageReference, parseImageReference } from '../core/image-reference.ts';
import { formatPlatform } from '../core/platform.ts';
import { waitFor } from '../core/wait-for.ts';
import type { LayerIndexes } from '../spans/layer-indexes.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { Layers } from './layers.ts';
import type { LazyImages } from './lazy-images.ts';
import type { Manifests } from './manifests.ts';
import type { SociIndexer } from './soci-indexer.ts';
import type { Target } from './target.ts';

export interface WarmJobsDeps {
  readonly upstreams: Upstreams;
  readonly manifests: Manifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly indexer: SociIndexer;
  readonly lazyImages: LazyImages;
  readonly logger: Logger;
}

/** A job as the operations API shows it. */
export interface WarmJobView {
  readonly id: string;
  readonly image: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly createdAt: string;
  readonly platforms: readonly string[];
  readonly layers: readonly {
    readonly digest: Digest;
    readonly size: number;
    /** Compressed bytes that are here, from the first on. */
    readonly fetched: number;
    readonly state: 'absent' | 'building' | 'complete' | 'failed';
    /** Why it is left out of the SOCI index. */
    readonly reason?: ErrorCode;
  }[];
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

interface WarmLayer {
  readonly digest: Digest;
  readonly size: number;
  handle: BlobHandle | undefined;
  /** The registry does not have it. */
  isAbsent: boolean;
}

interface WarmJob {
  readonly id: string;
  readonly image: string;
  readonly createdAt: Date;
  platforms: readonly string[];
  layers: readonly WarmLayer[];
  state: WarmJobView['state'];
  error?: SpandrelError;
}

/** Finished jobs are forgotten from the oldest on. */
const MAX_JOBS = 1000;
const MAX_RUNNING = 100;

/** Indexes images before anybody pulls them. */
export class WarmJobs implements AsyncDisposable {
  readonly #deps: WarmJobsDeps;
  readonly #jobs = new Map<string, WarmJob>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(deps: WarmJobsDeps) {
    this.#deps = deps;
  }

  /**
   * Fetch and index an image, unless that is under way.
   * @param image `upstream/repository[:tag][@digest]`, the upstream by its name or host
   * @param platforms those that tags are answered for when not given
   * @throws SpandrelError OVERLOADED, NAME_UNKNOWN, NAME_INVALID, TAG_INVALID, DIGEST_INVALID
   */
  async start(image: string, platforms?: readonly Platform[]): Promise<WarmJobView> {
    const reference = parseImageReference(image);
    const target = this.#deps.upstreams.select({ name: reference.name });
    const running = [...this.#jobs.values()].find((job) => job.state === 'running' && job.image === image);
    if (running !== undefined) return this.#view(running);
    if (this.#running.size >= MAX_RUNNING)
      throw new SpandrelError('OVERLOADED', `${MAX_RUNNING} images are being warmed already`);
    const job: WarmJob = {
      id: randomUUID(),
      image,
      createdAt: new Date(),
      platforms: [],
      layers: [],
      state: 'running',
    };
    this.#remember(job);
    const work = this.#run(job, target, reference, platforms).finally(() => this.#running.delete(job.id));
    this.#running.set(job.id, work);
    return this.#view(job);
  }

  async get(id: string): Promise<WarmJobView | undefined> {
    const job = this.#jobs.get(id);
    return job === undefined ? undefined : this.#view(job);
  }

  /** The newest first. */
  async list(): Promise<WarmJobView[]> {
    return Promise.all([...this.#jobs.values()].toReversed().map((job) => this.#view(job)));
  }

  #remember(job: WarmJob): void {
    this.#jobs.set(job.id, job);
    for (const [id, { state }] of this.#jobs) {
      if (this.#jobs.size <= MAX_JOBS) break;
      if (state !== 'running') this.#jobs.delete(id);
    }
  }

  /** Never rejects. */
  async #run(
    job: WarmJob,
    target: Target,
    { reference }: ImageReference,
    platforms: readonly Platform[] | undefined,
  ): Promise<void> {
    const { signal } = this.#stopping;
    try {
      const { manifests, lazyImages, indexer, layers } = this.#deps;
      // The image has been pushed just now, perhaps.
      const { manifest } = await manifests.refresh(target, reference, signal);
      const planned = await lazyImages.planned(target, manifest, platforms);
      job.platforms = planned.map(({ platform }) => formatPlatform(platform));
      const eligible = planned.flatMap((image) => indexer.eligible(target, image.manifest));
      const distinct = new Map(eligible.map(({ digest, size }) => [digest, size]));
      job.layers = Array.from(distinct, ([digest, size]) => ({
        digest,
        size,
        handle: undefined,
        isAbsent: false,
      }));
      await Promise.all(
        job.layers.map(async (layer) => {
          try {
            layer.handle = await layers.openBlob(target, layer.digest, signal);
          } catch (error) {
            if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
            layer.isAbsent = true;
          }
        }),
      );
      await waitFor(lazyImages.indexAnew(target, planned), signal);
      job.state = 'done';
    } catch (error) {
      job.state = 'failed';
      job.error = isSpandrelError(error)
        ? error
        : new SpandrelError('INTERNAL', 'the image could not be warmed', { cause: error });
      if (!signal.aborted)
        this.#deps.logger.warn({ image: job.image, code: job.error.code, err: error }, 'image not warmed');
    } finally {
      for (const layer of job.layers) {
        await layer.handle?.[Symbol.asyncDispose]();
        layer.handle = undefined;
      }
    }
  }

  async #view(job: WarmJob): Promise<WarmJobView> {
    const { id, image, state, createdAt, platforms, error } = job;
    const layers = await Promise.all(
      job.layers.map(async ({ digest, size, handle, isAbsent }) => {
        const state = await this.#deps.indexes.state(digest);
        const { kind } = state;
        const fetched = kind === 'complete' ? size : (handle?.growth.availableBytes ?? 0);
        if (isAbsent && kind !== 'complete')
          return { digest, size, fetched, state: 'failed' as const, reason: 'BLOB_UNKNOWN' as const };
        const reason = kind === 'failed' ? { reason: state.code } : {};
        return { digest, size, fetched, state: kind, ...reason };
      }),
    );
    const failure = error === undefined ? {} : { error: { code: error.code, message: error.message } };
    return { id, image, state, createdAt: createdAt.toISOString(), platforms, layers, ...failure };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(this.#running.values());
  }
}
