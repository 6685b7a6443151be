import type { MetricRegistry } from '../metric-registry.ts';

/** Requests to the object store: `part` writes a part of a large object. */
export const DURABLE_OPS = ['get', 'put', 'part', 'stat', 'delete', 'list'] as const;
export type DurableOp = (typeof DURABLE_OPS)[number];

/**
 * How requests to the object store end. `absent`: it has no such object. `exists`: it has the object already.
 * Of the faults, `denied`, `bucket`, `credentials` and `clock` need an operator.
 */
export const DURABLE_OUTCOMES = [
  'ok',
  'absent',
  'exists',
  'denied',
  'bucket',
  'credentials',
  'clock',
  'throttled',
  'timeout',
  'unreachable',
  'unavailable',
  'refused',
  'protocol',
  'left_alone',
] as const;
export type DurableOutcome = (typeof DURABLE_OUTCOMES)[number];

/** What is written to the object store. */
export const DURABLE_KINDS = ['blob', 'record'] as const;
export type DurableKind = (typeof DURABLE_KINDS)[number];

/**
 * Why something is not written: the queue is full, the store refuses it again and again, it was evicted
 * before its turn, the proxy stopped.
 */
export const DURABLE_DROPS = ['full', 'refused', 'evicted', 'stopped'] as const;
export type DurableDrop = (typeof DURABLE_DROPS)[number];

/** Metrics of the durable tier, a part of `Metrics`. */
export class DurableMetrics {
  readonly requests;
  readonly bytes;
  readonly queued;
  readonly queuedBytes;
  readonly dropped;
  readonly wrong;
  readonly leftAlone;

  constructor({ counter, gauge }: MetricRegistry) {
    this.requests = counter('durable_requests_total', 'Requests to the object store, by outcome', [
      'op',
      'outcome',
    ]);
    this.bytes = counter('durable_bytes_total', 'Bytes of objects that were `read` or `written`', [
      'direction',
    ]);
    this.queued = gauge(
      'durable_queue_length',
      'Blobs and records that wait to be written to the object store',
      ['kind'],
    );
    this.queuedBytes = gauge('durable_queue_bytes', 'Their bytes', ['kind']);
    this.dropped = counter(
      'durable_dropped_total',
      'Blobs and records that are not written to the object store: the queue is `full`, the store ' +
        '`refused` them, they were `evicted` before their turn, the proxy `stopped`',
      ['kind', 'reason'],
    );
    this.wrong = counter(
      'durable_wrong_total',
      'Objects that do not match their digest or seal: they are deleted and not used',
      ['kind'],
    );
    this.leftAlone = gauge(
      'durable_circuit_open',
      '1 while the object store gets no requests because it failed; it is probed from time to time',
      [],
    );
    // Alerts see only increases of a series, so it must exist before the first failure.
    for (const op of DURABLE_OPS) this.requests.inc({ op, outcome: 'ok' }, 0);
    for (const direction of ['read', 'written']) this.bytes.inc({ direction }, 0);
    for (const kind of DURABLE_KINDS) {
      this.queued.set({ kind }, 0);
      this.queuedBytes.set({ kind }, 0);
      this.wrong.inc({ kind }, 0);
      for (const reason of DURABLE_DROPS) this.dropped.inc({ kind, reason }, 0);
    }
  }
}
