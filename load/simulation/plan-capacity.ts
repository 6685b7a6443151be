import { percentile } from '../reports/percentile.ts';
import type { Values } from './figures.ts';
import { type Arrival, type ArrivalResult, simulateArrival } from './simulate-arrival.ts';
import { bytesOf, requestsOf, type StartedImage, type StartForm } from './start-forms.ts';

/** What nodes that start an image within a time need. */
export interface CapacityPlan {
  readonly replicas: number;
  /** What more nodes would wait for first. */
  readonly limit: 'serving thread' | 'network';
  /** Of one node alone. */
  readonly aloneSeconds: number;
  /** Replicas that have read everything before. */
  readonly warm: ArrivalResult;
  /** As many replicas with empty disks. */
  readonly cold: ArrivalResult;
}

/** The 99th percentile of starts may take this much longer than a node alone. */
const ALLOWED_FACTOR = 1.5;
/** A replica that is busier than this lets nodes wait. */
const FIRST_LOAD = 0.85;
const GROWTH = 1.1;
const MOST_TRIES = 25;

/** Finds the number of warm replicas: from what their work takes at least, upwards until starts are fast. */
export function planCapacity(
  image: StartedImage,
  form: StartForm,
  { nodes, withinSeconds, seed }: Pick<Arrival, 'nodes' | 'withinSeconds' | 'seed'>,
  values: Values,
): CapacityPlan {
  const base = { form, imageBytes: image.bytes, withinSeconds, seed };
  const alone = simulateArrival({ ...base, nodes: 1, replicas: 1, state: 'warm' }, values);
  const aloneSeconds = alone.startSeconds[0] ?? Number.NaN;
  const { serving, network } = workOfAStart(form, values);
  const limit = serving > network ? 'serving thread' : 'network';
  const least = (nodes * Math.max(serving, network)) / (FIRST_LOAD * (withinSeconds + aloneSeconds));
  let replicas = Math.max(1, Math.floor(least));
  for (let tries = 1; tries <= MOST_TRIES; tries++) {
    const warm = simulateArrival({ ...base, nodes, replicas, state: 'warm' }, values);
    if (percentile(warm.startSeconds, 0.99) <= ALLOWED_FACTOR * aloneSeconds) {
      const cold = simulateArrival({ ...base, nodes, replicas, state: 'cold' }, values);
      return { replicas, limit, aloneSeconds, warm, cold };
    }
    replicas = Math.ceil(Math.max(replicas + 1, replicas * GROWTH));
  }
  throw new Error(`${image.name}, ${form.name}, ${nodes} nodes: ${replicas} replicas are too few`);
}

/** Seconds of a replica's serving thread and network card that one start of a warm image takes. */
export function workOfAStart(form: StartForm, values: Values): { serving: number; network: number } {
  const bytes = bytesOf(form);
  const { connectionsPerNode, connectionCpuMs, documentCpuMs, rangeCpuMs } = values;
  const requestsMs =
    connectionsPerNode * connectionCpuMs +
    form.documents * documentCpuMs +
    (requestsOf(form) - form.documents) * rangeCpuMs;
  return {
    serving: requestsMs / 1000 + (bytes / 1e9) * values.sendCpuSecondsPerGb,
    network: (bytes * 8) / (values.replicaGbps * 1e9),
  };
}
