import { normalizePlatform, type Platform } from '../../core/platform.ts';
import { SpandrelError } from '../../core/errors.ts';
import { formatReference, parseImageReference } from '../../core/image-reference.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import { targetKey } from '../../upstream/target.ts';
import { chooseTag } from '../../publish/choose-tag.ts';
import type { IndexPolicies } from '../lazy/index-policy.ts';
import { ImageJob, type ImageJobDeps, type JobOrder } from './image-job.ts';
import type { ImageJobView } from './image-job-view.ts';
import type { Publication } from './image-publisher.ts';
import type { SharedJobs } from './shared-jobs.ts';

export interface ImageJobsDeps extends ImageJobDeps {
  readonly upstreams: Upstreams;
  readonly policies: IndexPolicies;
  readonly sharedJobs: SharedJobs;
}

/** What a caller wants of a publication; the repository's rule has the rest. */
export interface PublishWish {
  readonly tag?: string | undefined;
  readonly isV1?: boolean | undefined;
  readonly platforms?: readonly Platform[] | undefined;
  /** As {@link Publication} has it. */
  readonly isAutomatic?: boolean;
}

/** Jobs for the same order, which run one after the other. */
interface JobSequence {
  /** Has not started: it also serves equal orders that arrive before it does. */
  waiting: ImageJob | undefined;
  /** Settles when the last job has ended. */
  last: Promise<void>;
}

/** Ended jobs beyond this number are dropped, oldest first. */
const MAX_JOBS = 1000;
const MAX_UNFINISHED = 500;
/** More jobs wait. Each opens the blobs of all its layers at once. */
const MAX_RUNNING = 32;
/** How often other replicas hear of the progress of running jobs. */
const TELL_MS = 1_000;

/**
 * Indexes images before clients pull them, and publishes images. A caller gets the image as it is at the time
 * of the request or later. A running job may have resolved the tag before it moved, so an equal order starts
 * a second job after it, which serves all equal orders until it starts. Other jobs of an image run side by
 * side and share fills and builds.
 */
export class ImageJobs implements AsyncDisposable {
  readonly #deps: ImageJobsDeps;
  /** In the order of the requests. */
  readonly #jobs = new Map<string, ImageJob>();
  /** Unfinished jobs, by {@link orderKey}. */
  readonly #sequences = new Map<string, JobSequence>();
  readonly #unfinished = new Set<ImageJob>();
  readonly #turns = new WorkQueue({ maxRunning: MAX_RUNNING, maxWaiting: MAX_UNFINISHED });
  readonly #stopping = new AbortController();
  #telling: NodeJS.Timeout | undefined;
  /** Settles when the last progress has been told. */
  #told = Promise.resolve();

  constructor(deps: ImageJobsDeps) {
    this.#deps = deps;
  }

  /**
   * Starts to fetch and index the current image.
   * @param image `upstream/repository[:tag][@digest]`, with the upstream's name or host
   * @param platforms default: the platforms of the repository's policy
   * @throws SpandrelError OVERLOADED, NAME_UNKNOWN, NAME_INVALID, TAG_INVALID, DIGEST_INVALID, SHUTTING_DOWN
   */
  warm(image: string, platforms?: readonly Platform[]): Promise<ImageJobView> {
    return this.#begin({ ...this.locate(image), platforms });
  }

  /**
   * Starts to publish the current image with its SOCI indexes.
   * @param tag of the result; by default as the repository's rule says. A v1 index has none.
   * @throws SpandrelError as {@link warm} and {@link chooseTag}
   */
  publish(
    image: string,
    { tag, isV1, platforms, isAutomatic = false }: PublishWish = {},
  ): Promise<ImageJobView> {
    const located = this.locate(image);
    if (isV1 === true && tag !== undefined)
      throw new SpandrelError('QUERY_INVALID', 'tag and v1 exclude each other: a v1 index has no tag');
    const { publish: rule } = this.#deps.policies.of(located.target);
    const publication: Publication =
      isV1 === true
        ? { form: 'v1', tag: undefined, isAutomatic }
        : { form: 'full', tag: chooseTag(tag, located.reference, rule), isAutomatic };
    return this.#begin({ ...located, platforms, publication });
  }

  /** @throws SpandrelError NAME_UNKNOWN, NAME_INVALID, TAG_INVALID, DIGEST_INVALID */
  locate(image: string): Pick<JobOrder, 'image' | 'target' | 'reference'> {
    const { name, reference } = parseImageReference(image);
    return { image, target: this.#deps.upstreams.select({ name }), reference };
  }

  /** When the caller learns of the job, every replica knows it. */
  async #begin(order: JobOrder): Promise<ImageJobView> {
    const job = this.#order(order);
    const { sharedJobs } = this.#deps;
    const view = await job.view();
    await sharedJobs.note(view);
    await sharedJobs.noteList([...this.#jobs.keys()].toReversed());
    // What is told last counts.
    if (job.hasEnded) await sharedJobs.note(await job.view());
    return view;
  }

  #order(order: JobOrder): ImageJob {
    this.#stopping.signal.throwIfAborted();
    return this.#sequences.get(orderKey(order))?.waiting ?? this.#add(order);
  }

  /** A job of this replica, or of another one. */
  async get(id: string): Promise<ImageJobView | undefined> {
    return this.#jobs.get(id)?.view() ?? this.#deps.sharedJobs.find(id);
  }

  /** Newest first. */
  async list(): Promise<ImageJobView[]> {
    const own = await Promise.all([...this.#jobs.values()].toReversed().map((job) => job.view()));
    const others = await this.#deps.sharedJobs.listOthers(new Set(this.#jobs.keys()));
    if (others.length === 0) return own;
    return [...own, ...others].toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  }

  #add(order: JobOrder): ImageJob {
    if (this.#unfinished.size >= MAX_UNFINISHED)
      throw new SpandrelError('OVERLOADED', `${MAX_UNFINISHED} images are waiting to be warmed or published`);
    const job = new ImageJob(this.#deps, order);
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
  async #run(job: ImageJob, sequence: JobSequence): Promise<void> {
    await this.#turns.run(async () => {
      sequence.waiting = undefined;
      await job.run(this.#stopping.signal);
    });
    this.#unfinished.delete(job);
    // What is told last counts.
    await this.#told;
    await this.#deps.sharedJobs.note(await job.view());
  }

  /** Tells other replicas of the progress of unfinished jobs, until there are none. */
  #tellSoon(): void {
    if (!this.#deps.sharedJobs.isShared || this.#unfinished.size === 0) return;
    this.#telling ??= setTimeout(() => {
      this.#told = this.#tell();
    }, TELL_MS).unref();
  }

  async #tell(): Promise<void> {
    const { sharedJobs } = this.#deps;
    for (const job of this.#unfinished) await sharedJobs.note(await job.view());
    this.#telling = undefined;
    this.#tellSoon();
  }

  #remember(job: ImageJob): void {
    this.#unfinished.add(job);
    this.#tellSoon();
    this.#jobs.set(job.id, job);
    for (const [id, { hasEnded }] of this.#jobs) {
      if (this.#jobs.size <= MAX_JOBS) break;
      if (hasEnded) this.#jobs.delete(id);
    }
  }

  /** Unfinished jobs fail with SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    clearTimeout(this.#telling);
    await Promise.all(Array.from(this.#sequences.values(), ({ last }) => last));
  }
}

/** Equal for orders that mean the same, however they are written. */
function orderKey({ target, reference, platforms, publication }: JobOrder): string {
  const wanted = platforms?.map((platform) => JSON.stringify(normalizePlatform(platform))).toSorted();
  const image = [targetKey(target), formatReference(reference)];
  return JSON.stringify([image, wanted && [...new Set(wanted)], publication ?? null]);
}
