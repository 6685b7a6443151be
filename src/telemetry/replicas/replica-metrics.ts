import type { MetricRegistry } from '../metric-registry.ts';

/** How a replica and the others agree on who fetches a blob or builds an index. */
export type LeaseOutcome = 'claimed' | 'taken_over' | 'other' | 'none';
const LEASE_OUTCOMES: readonly LeaseOutcome[] = ['claimed', 'taken_over', 'other', 'none'];

/** How requests to other replicas end. */
export type PeerOutcome =
  'ok' | 'absent' | 'unreachable' | 'silent' | 'denied' | 'refused' | 'invalid' | 'broken';
const PEER_OUTCOMES: readonly PeerOutcome[] = [
  'ok',
  'absent',
  'unreachable',
  'silent',
  'denied',
  'refused',
  'invalid',
  'broken',
];

/** Metrics of replicas that work together. */
export class ReplicaMetrics {
  readonly members;
  readonly leases;
  readonly requests;

  constructor({ counter, gauge }: Pick<MetricRegistry, 'counter' | 'gauge'>) {
    this.members = gauge('replicas', 'Replicas that are alive, this one included; 0 without Redis', []);
    this.leases = counter(
      'replica_leases_total',
      'How replicas agreed on who fetches a blob or builds an index: this one took it (`claimed`), or ' +
        'took it from a replica that was gone (`taken_over`); another one does or did it (`other`); no ' +
        'agreement, as without Redis (`none`)',
      ['outcome'],
    );
    this.requests = counter(
      'replica_requests_total',
      'Requests for blobs to other replicas: `absent` is a replica that no longer has the blob, `silent` ' +
        'one that took the request and showed no sign of life, `denied` one that has the blob, but not for ' +
        'this repository, `broken` a body that ended early',
      ['outcome'],
    );
    for (const outcome of LEASE_OUTCOMES) this.leases.inc({ outcome }, 0);
    for (const outcome of PEER_OUTCOMES) this.requests.inc({ outcome }, 0);
  }
}
