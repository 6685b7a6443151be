import { rangeLength } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { StartOutcome } from '../../telemetry/start-outcomes.ts';
import type { WorkerPool } from '../../threads/worker-pool.ts';
import type { Start } from '../starts/start.ts';
import type { LearnedProfiles } from './learned-profiles.ts';
import type * as profileTasks from './profile-worker.ts';
import type { ReadLayer } from './profile-worker.ts';

export interface StartLearnerDeps {
  readonly profiles: LearnedProfiles;
  readonly indexes: Pick<LayerIndexes, 'has' | 'filePath'>;
  /** A thread whose entry is `boot/profiles/profile-worker.ts`. */
  readonly pool: Pick<WorkerPool<typeof profileTasks>, 'tasks'>;
  readonly events: Events;
  readonly logger: Logger;
}

/** Starts that wait. If many nodes start at once, some of their starts tell as much as all. */
const MAX_WAITING = 64;

/** Learns profiles from starts, one after another. */
export class StartLearner implements AsyncDisposable {
  readonly #deps: StartLearnerDeps;
  readonly #queue = new WorkQueue({ maxRunning: 1, maxWaiting: MAX_WAITING });
  readonly #learning = new Set<Promise<void>>();

  constructor(deps: StartLearnerDeps) {
    this.#deps = deps;
  }

  /** Does not wait. Failures are logged. */
  note(start: Start): void {
    const learning = this.#note(start).finally(() => this.#learning.delete(learning));
    this.#learning.add(learning);
  }

  /** Resolves when the starts that were noted are learned. */
  async settled(): Promise<void> {
    await Promise.all(this.#learning);
  }

  async #note(start: Start): Promise<void> {
    const { events, logger } = this.#deps;
    const { reads, servedPaths } = start;
    const bytes = reads.reduce((sum, { range }) => sum + rangeLength(range), 0);
    const seen = { requests: reads.length, bytes, hasBootLayer: servedPaths.length > 0 };
    try {
      const outcome = await this.#queue.run(() => this.#learn(start), undefined, start.repository);
      events.startSeen(outcome, seen);
    } catch (error) {
      const isBusy = isSpandrelError(error, 'OVERLOADED', 'SHUTTING_DOWN');
      if (!isBusy) logger.warn({ err: error, repository: start.repository }, 'a start cannot be learned');
      events.startSeen(isBusy ? 'skipped' : 'failed', seen);
    }
  }

  async #learn(start: Start): Promise<StartOutcome> {
    // A node that reads so much is no container that starts.
    if (start.isCut) return 'too_long';
    const { profiles, pool } = this.#deps;
    const { repository, servedPaths } = start;
    const layers = await this.#indexedLayers(start);
    const known = new Set([...(await profiles.knownPaths(repository)), ...servedPaths]);
    const input = { layers: [...layers.values()], known };
    const laid = await pool.tasks.layStart(input, { fairnessKey: repository });
    if (laid.touched.length === 0 && servedPaths.length === 0)
      return laid.coarseReads > 0 ? 'too_coarse' : 'no_files';
    await profiles.learn(repository, {
      layers: [...layers.keys()],
      touched: laid.touched,
      present: laid.present,
      served: servedPaths,
    });
    return 'learned';
  }

  /** The layers of a start whose files are known, with the reads of each. */
  async #indexedLayers({ mounted, reads }: Start): Promise<ReadonlyMap<Digest, ReadLayer>> {
    const { indexes } = this.#deps;
    const found = new Map<Digest, ReadLayer>();
    for (const { digest, layer } of mounted) {
      if (!(await indexes.has(layer))) continue;
      const own = reads.flatMap((read, order) =>
        read.digest === digest ? [{ order, range: read.range }] : [],
      );
      found.set(layer, { indexPath: indexes.filePath(layer), isTar: digest !== layer, reads: own });
    }
    return found;
  }

  /** Starts that wait are not learned. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.refuseWaiting(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await this.settled();
  }
}
