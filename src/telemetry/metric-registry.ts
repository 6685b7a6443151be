import { Counter, Gauge, Histogram, Registry } from 'prom-client';

const PREFIX = 'spandrel_';

/** A metric for the reference. */
export interface MetricDescription {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
}

/** Creates metrics, and describes them for the reference. */
export class MetricRegistry {
  readonly registry = new Registry();
  readonly described: MetricDescription[] = [];

  readonly counter = <L extends string>(name: string, help: string, labels: readonly L[]): Counter<L> =>
    new Counter(this.#describe('counter', name, help, labels));

  readonly gauge = <L extends string>(name: string, help: string, labels: readonly L[]): Gauge<L> =>
    new Gauge(this.#describe('gauge', name, help, labels));

  readonly histogram = <L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    buckets: number[],
  ): Histogram<L> => new Histogram({ ...this.#describe('histogram', name, help, labels), buckets });

  /** Adds a metric to the reference. Returns its settings for prom-client. */
  #describe<L extends string>(
    type: MetricDescription['type'],
    name: string,
    help: string,
    labels: readonly L[],
  ): { name: string; help: string; labelNames: L[]; registers: Registry[] } {
    const described = { name: PREFIX + name, type, help, labels };
    this.described.push(described);
    return { name: described.name, help, labelNames: [...labels], registers: [this.registry] };
  }
}
