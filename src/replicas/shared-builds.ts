import { setTimeout as sleep } from 'node:timers/promises';

import { TimeLimit } from '../core/work/time-limit.ts';
import type { Events } from '../telemetry/events.ts';
import { HeldLease } from './held-lease.ts';
import { type Leases, type LeaseState, LOOK_MS, MAX_SILENT_LOOKS, SILENCE_MS } from './leases.ts';

export interface SharedBuildsDeps {
  readonly leases: Leases;
  /** Whether a replica of this id lives. */
  readonly isMember: (id: string) => Promise<boolean>;
  /** Longest wait for other replicas. Without it, whoever writes to Redis could make it endless. */
  readonly maxWaitMs?: number;
  readonly events: Events;
}

const MAX_WAIT_MS = 15 * 60_000;
/** Who finds nothing more often waits for no further replica: the shared tier cannot take the thing. */
const MAX_MISSES = 1;

/** Something that replicas build once and share. */
export interface SharedBuild<T> {
  /** The same for the same result. */
  readonly name: string;
  /** Another replica has the bytes, so it should build if it is about to. */
  readonly isLate: boolean;
  /** The result of another replica, if it has been shared. */
  readonly find: () => Promise<T | undefined>;
  readonly build: () => Promise<T>;
  /** Aborts when somebody needs what only a build here gives. */
  readonly hurry: AbortSignal;
  /** Ends the wait for other replicas. */
  readonly signal: AbortSignal;
}

/** Builds each thing on one replica. The others wait for it, as long as that one shows signs of life. */
export class SharedBuilds {
  readonly #deps: SharedBuildsDeps;

  constructor(deps: SharedBuildsDeps) {
    this.#deps = deps;
  }

  /** What another replica builds or has built, else what `build` makes. @throws as `find` and `build` */
  async run<T>({ name, isLate, find, build, hurry, signal }: SharedBuild<T>): Promise<T> {
    const { leases, events, maxWaitMs = MAX_WAIT_MS } = this.#deps;
    using limit = new TimeLimit(maxWaitMs);
    const waiting = AbortSignal.any([hurry, signal, limit.signal]);
    if (isLate) await pause(waiting);
    let state = await leases.claim(name);
    for (let silent = 0, misses = 0; state !== undefined;) {
      if (state.kind === 'mine') return this.#buildFor(name, state.fence, build, signal);
      if (waiting.aborted) break;
      if (state.kind === 'done') {
        const found = await find();
        events.replicas.leaseAgreed(found === undefined ? 'taken_over' : 'other');
        if (found !== undefined) return found;
        if (++misses > MAX_MISSES) break;
        state = await leases.takeOver(name, state, state.holders);
        continue;
      }
      await pause(waiting);
      silent = (await this.#isAtWork(state)) ? 0 : silent + 1;
      state = silent < MAX_SILENT_LOOKS ? await leases.claim(name) : await leases.takeOver(name, state, []);
    }
    signal.throwIfAborted();
    events.replicas.leaseAgreed('none');
    return build();
  }

  async #isAtWork({ worker, silentMs }: LeaseState): Promise<boolean> {
    return worker !== undefined && silentMs <= SILENCE_MS && (await this.#deps.isMember(worker));
  }

  async #buildFor<T>(name: string, fence: string, build: () => Promise<T>, signal: AbortSignal): Promise<T> {
    this.#deps.events.replicas.leaseAgreed('claimed');
    const lease = new HeldLease(this.#deps.leases, name, fence);
    try {
      signal.throwIfAborted();
      const built = await build();
      await lease.end('done');
      return built;
    } catch (error) {
      await lease.end('undone');
      throw error;
    }
  }
}

/** Ends early when the signal aborts. */
async function pause(signal: AbortSignal): Promise<void> {
  await sleep(LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
}
