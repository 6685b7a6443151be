import type { ByteCache } from '../../cache/byte-cache.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';
import type { ImageJobView } from './image-job-view.ts';

const KEY_PREFIX = 'job:1:';
/** Without a sign of life for this long, the replica that ran a job is gone. */
const SILENCE_MS = 15_000;

interface Noted {
  readonly job: ImageJobView;
  readonly atMs: number;
}

/** Jobs as the replicas that run them last described them, so that every replica can be asked about them. */
export class SharedJobs {
  readonly #shared: ByteCache | undefined;

  /** @param shared used only if it is authentic: else anybody could tell stories */
  constructor(shared: ByteCache | undefined) {
    this.#shared = shared?.isAuthentic === true ? shared : undefined;
  }

  /** Whether there are others to tell. */
  get isShared(): boolean {
    return this.#shared !== undefined;
  }

  /** A running job must be noted again within some seconds. */
  async note(job: ImageJobView): Promise<void> {
    const noted: Noted = { job, atMs: steadyNow() };
    await this.#shared?.set(KEY_PREFIX + job.id, Buffer.from(JSON.stringify(noted)));
  }

  /** A job of another replica, or of an earlier process. It has failed if that is gone. */
  async find(id: string): Promise<ImageJobView | undefined> {
    const hit = await this.#shared?.get(KEY_PREFIX + id);
    const noted = hit && (tryParseJson(Buffer.from(hit.bytes).toString()) as Noted | undefined);
    if (noted === undefined) return undefined;
    const { job, atMs } = noted;
    if (job.state !== 'running' || sharedAgeMs(atMs, steadyNow()) < SILENCE_MS) return job;
    const message = 'the replica that ran the job is gone: start it again';
    return { ...job, state: 'failed', error: { code: 'SHUTTING_DOWN', message } };
  }
}
