import { type NoteRedis, sealedNotes, SharedNotes } from '../../cache/shared-notes.ts';
import type { ImageJobView } from './image-job-view.ts';

const PREFIX = 'job:1:';
const LIST_PREFIX = 'jobs:1:';
/** Of each other replica. */
const MAX_LISTED = 100;
/** Without a sign of life for this long, the replica that ran a job is gone. */
const SILENCE_MS = 15_000;

/** The replicas that are alive, by id. */
export interface JobReplicas {
  readonly id: string;
  readonly ids: readonly string[];
}

/** Jobs as the replicas that run them last described them, so that every replica can be asked about them. */
export class SharedJobs {
  readonly #notes: SharedNotes;
  readonly #lists: SharedNotes;
  readonly #replicas: JobReplicas | undefined;

  /**
   * @param redis used only if it is sealed: else anybody could tell stories
   * @param replicas whose jobs are listed
   */
  constructor(redis: NoteRedis | undefined, replicas?: JobReplicas) {
    const sealed = sealedNotes(redis);
    this.#notes = new SharedNotes(sealed, { prefix: PREFIX });
    this.#lists = new SharedNotes(sealed, { prefix: LIST_PREFIX });
    this.#replicas = replicas;
  }

  /** Whether there are others to tell. */
  get isShared(): boolean {
    return this.#notes.isShared;
  }

  /** A running job must be noted again within some seconds. */
  async note(job: ImageJobView): Promise<void> {
    await this.#notes.note(job.id, { job });
  }

  /** @param ids the jobs of this process, newest first; those of earlier ones stay listed behind them */
  async noteList(ids: readonly string[]): Promise<void> {
    if (this.#replicas === undefined) return;
    const { id } = this.#replicas;
    const all = new Set([...ids, ...(await this.#listOf(id))]);
    await this.#lists.note(id, { ids: [...all].slice(0, MAX_LISTED) });
  }

  /** The newest jobs of the replicas that are alive, without `own`, those of this process. */
  async listOthers(own: ReadonlySet<string>): Promise<ImageJobView[]> {
    const lists = (this.#replicas?.ids ?? []).map((id) => this.#listOf(id));
    const ids = [...new Set((await Promise.all(lists)).flat())].filter((id) => !own.has(id));
    const jobs = await Promise.all(ids.map((id) => this.find(id)));
    return jobs.filter((job) => job !== undefined);
  }

  async #listOf(replica: string): Promise<string[]> {
    const ids = (await this.#lists.find(replica))?.fields['ids'];
    return Array.isArray(ids) ? ids.slice(0, MAX_LISTED).map(String) : [];
  }

  /** A job of another replica, or of an earlier process. It has failed if that is gone. */
  async find(id: string): Promise<ImageJobView | undefined> {
    const note = await this.#notes.find(id);
    if (note === undefined) return undefined;
    const { job } = note.fields as { readonly job: ImageJobView };
    if (job.state !== 'running' || note.ageMs < SILENCE_MS) return job;
    const message = 'the replica that ran the job is gone: start it again';
    return { ...job, state: 'failed', error: { code: 'SHUTTING_DOWN', message } };
  }
}
