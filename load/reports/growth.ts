import { compareQuarters, type ProcessSample } from '../processes/process-samples.ts';
import type { ReportRow } from '../scenario.ts';
import { percentile } from './percentile.ts';

/** Allowed growth from the second to the last quarter of a run: a factor and an offset. */
const BOUNDS = {
  residentMb: { factor: 1.15, more: 30 },
  heapMb: { factor: 1.2, more: 15 },
  externalMb: { factor: 1.2, more: 30 },
  descriptors: { factor: 1.2, more: 10 },
} as const;
/** What grew during a run beyond its bound. */
export function growthProblems(samples: readonly ProcessSample[]): string[] {
  const problems: string[] = [];
  for (const [name, { factor, more }] of Object.entries(BOUNDS)) {
    const { early, late } = compareQuarters(samples, (sample) => sample[name as keyof typeof BOUNDS]);
    if (late > early * factor + more) problems.push(`${name} grew from ${early} to ${late}`);
  }
  return problems;
}

/** A row for each measure: before the run, during it, and at rest after it. */
export function describeGrowth(
  samples: readonly ProcessSample[],
  before: ProcessSample,
  after: ProcessSample,
): ReportRow[] {
  const names = [
    'residentMb',
    'heapMb',
    'externalMb',
    'descriptors',
    'storeMb',
    'fills',
    'eventLoopMs',
  ] as const;
  return names.map((name) => {
    const { early, late } = compareQuarters(samples, (sample) => sample[name]);
    const values = samples.map((sample) => sample[name]);
    return {
      what: name,
      before: before[name],
      'second quarter p50': early,
      'last quarter p50': late,
      p99: percentile(values, 0.99),
      most: Math.max(...values),
      'at rest': after[name],
    };
  });
}
