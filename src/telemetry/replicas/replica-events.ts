import type { LeaseOutcome, PeerOutcome, ReplicaMetrics } from './replica-metrics.ts';

/** What replicas do together. A part of `Events`. */
export class ReplicaEvents {
  readonly #metrics: ReplicaMetrics;

  constructor(metrics: ReplicaMetrics) {
    this.#metrics = metrics;
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
