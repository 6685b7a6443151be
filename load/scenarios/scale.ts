import type { Chart } from '../reports/chart.ts';
import { percentile } from '../reports/percentile.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { measuredValues } from '../simulation/figures.ts';
import { type CapacityPlan, planCapacity } from '../simulation/plan-capacity.ts';
import { PRICES, priceBetweenZones } from '../simulation/prices.ts';
import { simulateArrival } from '../simulation/simulate-arrival.ts';
import { bytesOf, IMAGES, requestsOf, type StartForm } from '../simulation/start-forms.ts';

const NODES = [100, 1000, 10_000];
const WITHIN_SECONDS = 60;
const SEED = 5;
/** Replicas of the chart, as shares of those that are needed. */
const CHART_SHARES = [0.4, 0.6, 0.8, 1, 1.3, 1.7];

/** A simulation: nothing is started, and the same figures give the same results on every machine. */
export const scale: Scenario = {
  name: 'scale',
  question:
    'Simulated: what do 100, 1,000 and 10,000 nodes need that start an image of 250 MB or 10 GB in a minute?',
  run({ clients: counts = NODES, log }) {
    const values = measuredValues();
    const rows: ReportRow[] = [];
    const lines: Chart['series'][number][] = [];
    for (const image of IMAGES) {
      for (const nodes of counts) {
        for (const form of image.forms) {
          log(`${image.name}, ${nodes} nodes, ${form.name}`);
          const arrival = { nodes, withinSeconds: WITHIN_SECONDS, seed: SEED };
          const plan = planCapacity(image, form, arrival, values);
          rows.push({ image: image.name, nodes, form: form.name, ...describe(form, nodes, plan) });
          if (image !== IMAGES[0] || nodes !== counts.at(-1)) continue;
          const points = CHART_SHARES.map((share): readonly [number, number] => {
            const replicas = Math.max(1, Math.round(share * plan.replicas));
            const options = { ...arrival, form, imageBytes: image.bytes, replicas, state: 'warm' } as const;
            return [replicas, percentile(simulateArrival(options, values).startSeconds, 0.99)];
          });
          lines.push({ name: form.name, points });
        }
      }
    }
    return Promise.resolve({ rows, charts: [drawKnee(lines, counts.at(-1) ?? 0)] });
  },
};

function describe(form: StartForm, nodes: number, plan: CapacityPlan): ReportRow {
  const { replicas, limit, aloneSeconds, warm, cold } = plan;
  const seconds = warm.totalSeconds;
  return {
    replicas,
    limit,
    'alone s': rounded(aloneSeconds),
    'p50 s': rounded(percentile(warm.startSeconds, 0.5)),
    'p99 s': rounded(percentile(warm.startSeconds, 0.99)),
    'cold: p50 s': rounded(percentile(cold.startSeconds, 0.5)),
    'cold: p99 s': rounded(percentile(cold.startSeconds, 0.99)),
    'requests/s': Math.round((nodes * requestsOf(form)) / seconds),
    'Gbit/s': rounded((warm.sentToNodes * 8) / 1e9 / seconds),
    'busiest thread': rounded(warm.busiest.serving / seconds),
    'busiest card': rounded(warm.busiest.network / seconds),
    'nodes of a replica': warm.mostNodesOfAReplica,
    'GB to nodes': rounded((nodes * bytesOf(form)) / 1e9),
    'cold: GB between replicas': rounded(cold.sentToReplicas / 1e9),
    'cold: GB from S3': rounded(cold.fetchedFromS3 / 1e9),
    'cold: S3 requests': cold.s3Requests,
    'cold: Redis commands': Math.round(cold.redisCommands),
    '$/h replicas': rounded(replicas * PRICES.replicaHour),
    '$ between zones': rounded(priceBetweenZones(warm.sentToNodes)),
    'cold: $ S3 requests': Number((cold.s3Requests * PRICES.s3Get).toFixed(3)),
  };
}

function drawKnee(series: Chart['series'], nodes: number): Chart {
  return {
    name: 'knee',
    title: `99th percentile of warm starts, ${nodes} nodes in a minute, 250 MB`,
    kind: 'lines',
    x: { label: 'replicas', isLogarithmic: true },
    y: { label: 'seconds', isLogarithmic: true },
    series,
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
