import { setTimeout as sleep } from 'node:timers/promises';

import { percentile } from '../reports/percentile.ts';
import type { ProxyProcess } from './proxy-process.ts';

/** Resources of the proxy at one moment. */
export interface ProcessSample {
  readonly atSeconds: number;
  readonly residentMb: number;
  readonly heapMb: number;
  readonly externalMb: number;
  readonly descriptors: number;
  readonly storeMb: number;
  readonly fills: number;
  /** 99th percentile since the last sample. */
  readonly eventLoopMs: number;
  readonly cpuSeconds: number;
}

const INTERVAL_MS = 1000;

/** Takes a sample every second until the signal aborts. */
export async function sampleProcess(proxy: ProxyProcess, signal: AbortSignal): Promise<ProcessSample[]> {
  const samples: ProcessSample[] = [];
  const startedMs = performance.now();
  while (!signal.aborted) {
    samples.push(await takeSample(proxy, startedMs));
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
  return samples;
}

/**
 * Takes one sample.
 * @param startedMs start of its time axis
 */
export async function takeSample(proxy: ProxyProcess, startedMs: number): Promise<ProcessSample> {
  const [metric, residentBytes, descriptors, cpuSeconds] = await Promise.all([
    proxy.metrics(),
    proxy.memoryBytes(),
    proxy.openDescriptors(),
    proxy.cpuSeconds(),
  ]);
  const megabytes = (bytes: number): number => Number((bytes / 1e6).toFixed(1));
  return {
    atSeconds: Number(((performance.now() - startedMs) / 1000).toFixed(1)),
    residentMb: megabytes(residentBytes),
    heapMb: megabytes(metric('nodejs_heap_size_used_bytes')),
    externalMb: megabytes(metric('nodejs_external_memory_bytes')),
    descriptors,
    storeMb: megabytes(metric('spandrel_store_bytes')),
    fills: metric('spandrel_fills_in_progress'),
    eventLoopMs: Number((metric('nodejs_eventloop_lag_p99_seconds') * 1000).toFixed(1)),
    cpuSeconds,
  };
}

/** Medians of the second and of the last quarter of a run. In the first, caches fill. */
export function compareQuarters(
  samples: readonly ProcessSample[],
  measure: (sample: ProcessSample) => number,
): { early: number; late: number } {
  const quarter = Math.floor(samples.length / 4);
  const median = (part: readonly ProcessSample[]): number => percentile(part.map(measure), 0.5);
  return { early: median(samples.slice(quarter, 2 * quarter)), late: median(samples.slice(-quarter)) };
}
