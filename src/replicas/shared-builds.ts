import { setTimeout as sleep } from 'node:timers/promises';

import type { Events } from '../telemetry/events.ts';
import { HeldLease } from './held-lease.ts';
import { type Leases, LOOK_MS, MAX_SILENT_LOOKS, SILENCE_MS } from './leases.ts';

export interface SharedBuildsDeps {
  readonly leases: Leases;
  readonly events: Events;
}

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
    const { leases, events } = this.#deps;
    const waiting = AbortSignal.any([hurry, signal]);
    if (isLate) await pause(waiting);
    let state = await leases.claim(name);
    for (let silent = 0; state !== undefined && !waiting.aborted;) {
      if (state.kind === 'mine') return this.#buildFor(name, state.fence, build);
      if (state.kind === 'done') {
        const found = await find();
        events.replicas.leaseAgreed(found === undefined ? 'taken_over' : 'other');
        if (found !== undefined) return found;
        // The shared tier has lost it, or cannot take it.
        state = await leases.takeOver(name, state, state.holders);
        continue;
      }
      await pause(waiting);
      silent = state.silentMs > SILENCE_MS ? silent + 1 : 0;
      state = silent < MAX_SILENT_LOOKS ? await leases.claim(name) : await leases.takeOver(name, state, []);
    }
    signal.throwIfAborted();
    events.replicas.leaseAgreed('none');
    return build();
  }

  async #buildFor<T>(name: string, fence: string, build: () => Promise<T>): Promise<T> {
    this.#deps.events.replicas.leaseAgreed('claimed');
    const lease = new HeldLease(this.#deps.leases, name, fence);
    try {
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
