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

/** Jobs of one thing that is asked for: they run one after the other. */
interface Line {
  /** Has not begun: whoever asks for the same has it done by this one. */
  waiting: WarmJob | undefined;
  /** Settles when the last one has ended. */
  last: Promise<void>;
}

/** Jobs that have ended are forgotten from the oldest on. */
const MAX_JOBS = 1000;
const MAX_UNFINISHED = 500;
/** Further ones wait. Each has the blobs of all its layers opened at once. */
const MAX_RUNNING = 32;

/**
 * Indexes images before anybody pulls them. Whoever asks has the image fetched as it is from then on: a job that runs may have read where
 * the tag pointed before it was moved, so another follows it, and does all that is asked until it begins. Jobs of one image for
 * different platforms, or by tag and by digest, run side by side and share their fills and builds.
 */
export class WarmJobs implements AsyncDisposable {
  readonly #deps: WarmJobsDeps;
  /** In the order in which they were asked for. */
  readonly #jobs = new Map<string, WarmJob>();
  /** Those that have not ended, by {@link orderKey}. */
  readonly #lines = new Map<string, Line>();
  readonly #unfinished = new Set<WarmJob>();
  readonly #turns = new WorkQueue({ maxRunning: MAX_RUNNING, maxWaiting: MAX_UNFINISHED });
  readonly #stopping = new AbortController();

  constructor(deps: WarmJobsDeps) {
    this.#deps = deps;
  }

  /**
   * Fetch and index an image as it is now.
   * @param image `upstream/repository[:tag][@digest]`, the upstream by its name or host
   * @param platforms those that tags are answered for when not given
   * @throws SpandrelError OVERLOADED, NAME_UNKNOWN, NAME_INVALID, TAG_INVALID, DIGEST_INVALID, SHUTTING_DOWN
   */
  async start(image: string, platforms?: readonly Platform[]): Promise<WarmJobView> {
    this.#stopping.signal.throwIfAborted();
    const { name, reference } = parseImageReference(image);
    const target = this.#deps.upstreams.select({ name });
    const order = { image, target, reference, platforms };
    return (this.#lines.get(orderKey(order))?.waiting ?? this.#add(order)).view();
  }

  async get(id: string): Promise<WarmJobView | undefined> {
    return this.#jobs.get(id)?.view();
  }

  /** The newest first. */
  async list(): Promise<WarmJobView[]> {
    return Promise.all([...this.#jobs.values()].toReversed().map((job) => job.view()));
  }

  #add(order: WarmOrder): WarmJob {
    if (this.#unfinished.size >= MAX_UNFINISHED)
      throw new SpandrelError('OVERLOADED', `${MAX_UNFINISHED} images are to be warmed already`);
    const job = new WarmJob(this.#deps, order);
    const key = orderKey(order);
    const line = this.#lines.get(key) ?? { waiting: undefined, last: Promise.resolve() };
    this.#lines.set(key, line);
    line.waiting = job;
    const last = line.last.then(() => this.#run(job, line));
    line.last = last;
    void last.then(() => line.last === last && this.#lines.delete(key));
    this.#remember(job);
    return job;
  }

  /** Never rejects: nothing is taken out of the queue, and it has room for all. */
  async #run(job: WarmJob, line: Line): Promise<void> {
    await this.#turns.run(async () => {
      line.waiting = undefined;
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

  /** Jobs that have not ended fail with SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(Array.from(this.#lines.values(), ({ last }) => last));
  }
}

/** Orders with the same key ask for the same, however they are written. */
function orderKey({ target, reference, platforms }: WarmOrder): string {
  const wanted = platforms?.map((platform) => JSON.stringify(normalizePlatform(platform))).toSorted();
  return JSON.stringify([targetKey(target), formatReference(reference), wanted && [...new Set(wanted)]]);
}
