import { extname } from 'node:path';

import type { Config } from './config/config-keys.ts';
import type * as bootTasks from './boot/layer/boot-worker.ts';
import type * as profileTasks from './boot/profiles/profile-worker.ts';
import type * as treeTasks from './images/files/tree-worker.ts';
import type { Events } from './telemetry/events.ts';
import type { WorkerPoolName } from './telemetry/metrics.ts';
import { noteThreadFault, type ThreadFault } from './threads/thread-fault.ts';
import { WorkerPool } from './threads/worker-pool.ts';
import type * as layerTasks from './build/layer-worker.ts';
import type * as spanTasks from './spans/span-worker.ts';

/** Tasks that may wait for a thread; a request with more gets 503. */
const MAX_QUEUED_BUILDS = 1_000;
const MAX_QUEUED_SPANS = 10_000;
const MAX_QUEUED_TREES = 100;
const MAX_QUEUED_STARTS = 10;
const MAX_QUEUED_BOOTS = 100;

export interface OpenPoolsOptions {
  /** Disposes of the pools. */
  readonly opening: AsyncDisposableStack;
  readonly events: Events;
}

export interface WorkerPools {
  readonly buildPool: WorkerPool<typeof layerTasks>;
  readonly spanPool: WorkerPool<typeof spanTasks>;
  readonly treePool: WorkerPool<typeof treeTasks>;
  readonly profilePool: WorkerPool<typeof profileTasks>;
  readonly bootPool: WorkerPool<typeof bootTasks>;
}

/** Opens one pool each for reads, builds, merges, starts and boot layers, so that none waits for another. */
export function openPools(
  { index, spans }: Pick<Config, 'index' | 'spans'>,
  { opening, events }: OpenPoolsOptions,
): WorkerPools {
  const onFault = (fault: ThreadFault): void => noteThreadFault(events, fault);
  const open = <Module>(
    name: WorkerPoolName,
    entry: string,
    threads: number,
    maxQueue: number,
  ): WorkerPool<Module> => {
    const url = new URL(`./${entry}${extname(import.meta.url)}`, import.meta.url);
    const pool = opening.use(new WorkerPool<Module>({ name, entry: url, threads, maxQueue, onFault }));
    events.watchQueue(name, () => pool.waitingTasks);
    events.watchHeld('task', () => pool.pendingTasks);
    return pool;
  };
  return {
    buildPool: open<typeof layerTasks>('index', 'build/layer-worker', index.threads, MAX_QUEUED_BUILDS),
    spanPool: open<typeof spanTasks>('span', 'spans/span-worker', spans.threads, MAX_QUEUED_SPANS),
    treePool: open<typeof treeTasks>('tree', 'images/files/tree-worker', 1, MAX_QUEUED_TREES),
    profilePool: open<typeof profileTasks>('profile', 'boot/profiles/profile-worker', 1, MAX_QUEUED_STARTS),
    bootPool: open<typeof bootTasks>('boot', 'boot/layer/boot-worker', 1, MAX_QUEUED_BOOTS),
  };
}
