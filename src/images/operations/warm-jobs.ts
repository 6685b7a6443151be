import { normalizePlatform, type Platform } from '../../core/platform.ts';
import { SpandrelError } from '../../core/errors.ts';
import { formatReference, parseImageReference } from '../../core/image-reference.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import { targetKey } from '../../upstream/target.ts';
import { WarmJob, type WarmJobDeps, type WarmJobView, type WarmOrder } from './warm-job.ts';

export interface WarmJobsDeps extends WarmJobDeps {
  readonly upstreams: Upstreams;
}

/** Jobs for the same order, which run one after the other. */
interface JobSequence {
  /** Has not started: it also serves equal orders that arrive before it does. */
  waiting: WarmJob | undefined;
  /** Settles when the last job has ended. */
  last: Promise<void>;
}

/** Ended jobs beyond this number are dropped, oldest first. */
const MAX_JOBS = 1000;
const MAX_UNFINISHED = 500;
/** More jobs wait. Each opens the blobs of all its layers at once. */
const MAX_RUNNING = 32;

/**
 * Indexes images before clients pull them. A caller gets the image as it is at the time of the request or
 * later. A running job may have resolved the tag before it moved, so an equal order starts a second job after
 * it, which serves all equal orders until it starts. Jobs for different platforms, or by tag and by digest,
 * run side by side and share fills and builds.
 */
export class WarmJobs implements AsyncDisposable {
  readonly #deps: WarmJobsDeps;
  /** In the order of the requests. */
  readonly #jobs = new Map<string, WarmJob>();
  /** Unfinished jobs, by {@link orderKey}. */
  readonly #sequences = new Map<string, JobSequence>();
  readonly #unfinished = new Set<WarmJob>();
  readonly #turns = new WorkQueue({ maxRunning: MAX_RUNNING, maxWaiting: MAX_UNFINISHED });
  readonly #stopping = new AbortController();

  constructor(deps: WarmJobsDeps) {
    this.#deps = deps;
  }

  /**
   * Starts to fetch and index the current image.
   * @param image `upstream/repository[:tag][@digest]`, with the upstream's name or host
   * @param platforms default: the platforms of the repository's policy
   * @throws SpandrelError OVERLOADED, NAME_UNKNOWN, NAME_INVALID, TAG_INVALID, DIGEST_INVALID, SHUTTING_DOWN
   */
  async start(image: string, platforms?: readonly Platform[]): Promise<WarmJobView> {
    this.#stopping.signal.throwIfAborted();
    const { name, reference } = parseImageReference(image);
    const target = this.#deps.upstreams.select({ name });
    const order = { image, target, reference, platforms };
    return (this.#sequences.get(orderKey(order))?.waiting ?? this.#add(order)).view();
  }

  async get(id: string): Promise<WarmJobView | undefined> {
    return this.#jobs.get(id)?.view();
  }

  /** Newest first. */
  async list(): Promise<WarmJobView[]> {
    return Promise.all([...this.#jobs.values()].toReversed().map((job) => job.view()));
  }

  #add(order: WarmOrder): WarmJob {
    if (this.#unfinished.size >= MAX_UNFINISHED)
      throw new SpandrelError('OVERLOADED', `${MAX_UNFINISHED} images are waiting to be warmed`);
    const job = new WarmJob(this.#deps, order);
    const key = orderKey(order);
    const sequence = this.#sequences.get(key) ?? { waiting: undefined, last: Promise.resolve() };
    this.#sequences.set(key, sequence);
    sequence.waiting = job;
    const last = sequence.last.then(() => this.#run(job, sequence));
    sequence.last = last;
    void last.then(() => sequence.last === last && this.#sequences.delete(key));
    this.#remember(job);
    return job;
  }

  /** Never rejects: the queue has room for all jobs, and none is withdrawn. */
  async #run(job: WarmJob, sequence: JobSequence): Promise<void> {
    await this.#turns.run(async () => {
      sequence.waiting = undefined;
      await job.run(this.#stopping.signal);
    });
    this.#unfinished.delete(job);
  }

  #remember(job: WarmJob): void {
    this.#unfinished.add(job);
    this.#jobs.set(job.id, job);
    for (const [id, { hasEnded }] of this.#jobs) {
      if (this.#jobs.size <= MAX_JOBS) break;
      if (hasEnded) this.#jobs.delete(id);
    }
  }

  /** Unfinished jobs fail with SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(Array.from(this.#sequences.values(), ({ last }) => last));
  }
}

/** Equal for orders that mean the same, however they are written. */
function orderKey({ target, reference, platforms }: WarmOrder): string {
  const wanted = platforms?.map((platform) => JSON.stringify(normalizePlatform(platform))).toSorted();
  return JSON.stringify([targetKey(target), formatReference(reference), wanted && [...new Set(wanted)]]);
}
