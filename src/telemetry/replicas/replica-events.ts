import { Conditions } from '../conditions.ts';
import type { Logger } from '../logger.ts';
import type { LeaseOutcome, PeerOutcome, ReplicaMetrics } from './replica-metrics.ts';

/** What replicas do together. A part of `Events`. */
export class ReplicaEvents {
  readonly #metrics: ReplicaMetrics;
  readonly #conditions: Conditions;

  constructor(logger: Logger, metrics: ReplicaMetrics) {
    this.#metrics = metrics;
    this.#conditions = new Conditions(logger);
  }

  /** What kept replicas from working together within the last minute, in words for an operator. */
  get conditions(): readonly string[] {
    return this.#conditions.current;
  }

  /** @param seconds that clocks may differ by */
  strayClock(url: string, seconds: number): void {
    const text = `the clock of replica ${url} or the own one is wrong by more than ${seconds} s: not used`;
    this.#conditions.note('clock', text, { url });
  }

  /** Records in Redis that no holder of the own token has written. */
  strangers(count: number): void {
    const text = 'replica.token: replicas with another token share this Redis: neither uses the others';
    this.#conditions.note('token', text, { count });
  }

  sameUrl(url: string): void {
    const text = `replica.url: another replica has ${url} too: neither can be asked for anything`;
    this.#conditions.note('url', text, { url });
  }

  membersSeen(count: number): void {
    this.#metrics.members.set(count);
  }

  leaseAgreed(outcome: LeaseOutcome): void {
    this.#metrics.leases.inc({ outcome });
  }

  peerResponded(outcome: PeerOutcome): void {
    this.#metrics.requests.inc({ outcome });
  }
}
