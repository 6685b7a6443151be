import { setTimeout as sleep } from 'node:timers/promises';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import type { JsonFaultRule } from '../../test/registry/control-server.ts';
import type { Chart } from '../reports/chart.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { describeGrowth, growthProblems } from '../reports/growth.ts';
import { type ProcessSample, sampleProcess, takeSample } from '../processes/process-samples.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { runClient } from '../clients/run-client.ts';
import { type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import type { SoakOptions, SoakResult } from '../clients/soak-clients-main.ts';

const MINUTES = 60;
const CLIENTS = 12;
const SEED = 3;
/** About 12 MB each, compressed. */
const IMAGES = 5;
const LAYER_MIB = 20;
/** Less than all images, so that blobs are evicted. */
const STORE_MIB = 48;
const REGISTRY = { latencyMs: 5, bytesPerSecond: 50e6, maxLoggedRequests: 100 };
const STALL_TIMEOUT_MS = 1500;
/** Wait after the clients have left; longer than any timeout of the proxy's own connections. */
const REST_MS = 10_000;

const FAULT_PAUSE_MS = 3000;
const BLOBS = { path: '/blobs/', method: 'GET' };
/** The one image that the upstream sometimes corrupts. */
const CORRUPTED = 'app0';
const CORRUPTED_BLOBS = { path: `^/v2/${CORRUPTED}/blobs/`, method: 'GET' };
const FAULTS: readonly JsonFaultRule['action'][] = [
  { kind: 'stall', afterBytes: 300_000 },
  { kind: 'reset', afterBytes: 500_000 },
  { kind: 'reset' },
  { kind: 'truncate', afterBytes: 100_000 },
  { kind: 'length', delta: -1000 },
  { kind: 'corrupt', atByte: 1_000_000 },
  { kind: 'status', status: 429, headers: { 'retry-after': '1' } },
  { kind: 'status', status: 503 },
];

/**
 * Handles that may remain after all clients have left: eight threads with six each, the files of some twenty
 * blobs, idle connections.
 */
const DESCRIPTORS_LEFT = 80;

const CLIENTS_MAIN = new URL('../clients/soak-clients-main.ts', import.meta.url).pathname;

/** A long mixed load with a faulty upstream. */
export const soak: Scenario = {
  name: 'soak',
  question:
    'Mixed clients and an upstream at fault for a long time: is every byte right, and does anything grow?',
  async run({ minutes = MINUTES, clients: [clients = CLIENTS] = [], log }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const images: SampleImage[] = [];
    for (let place = 0; place < IMAGES; place++)
      images.push(await writeSampleImage(folder.path, { repository: `app${place}`, layerMib: LAYER_MIB }));
    await using upstream = await DemoUpstream.startWith(images, REGISTRY);
    await using proxy = await ProxyProcess.start({
      upstreamUrl: upstream.url,
      root: folder.next(),
      environment: {
        SPANDREL_STORAGE_MAX_BYTES: `${STORE_MIB}MiB`,
        SPANDREL_CACHE_MEMORY_BYTES: '64MiB',
        SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: String(STALL_TIMEOUT_MS),
        SPANDREL_LOG_LEVEL: 'fatal',
      },
    });
    const startedMs = performance.now();
    const before = await takeSample(proxy, startedMs);
    log(`${minutes} minutes, seed ${SEED}`);
    using ended = new EndSignal();
    const sampling = sampleProcess(proxy, ended.signal);
    const faults = causeFaults(upstream, ended.signal);
    const { result } = await runClient<SoakResult>(CLIENTS_MAIN, {
      url: proxy.url,
      images: images.map((image) => ({
        image,
        repository: proxy.repositoryOf(image.repository),
        isCorrupted: image.repository === CORRUPTED,
      })),
      clients,
      seconds: minutes * 60,
      seed: SEED,
    } satisfies SoakOptions);
    ended.end();
    const samples = await sampling;
    log(`${await faults} faults; resting`);
    await sleep(REST_MS);
    const after = await takeSample(proxy, startedMs);
    const problems = judge(samples, before, after, result);
    const rows = [...describeWork(result), ...describeGrowth(samples, before, after)];
    return {
      rows,
      charts: [drawMemory(samples, minutes), drawHeld(samples, minutes)],
      ...(problems.length === 0 ? {} : { failure: problems.join('; ') }),
    };
  },
};

/** A signal that aborts at the latest when its owner's block ends. */
class EndSignal implements Disposable {
  readonly #controller = new AbortController();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(): void {
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** Makes some responses fail every few seconds. Returns the most that may have failed. */
async function causeFaults(upstream: DemoUpstream, signal: AbortSignal): Promise<number> {
  const random = seededRandom(SEED);
  let count = 0;
  while (!signal.aborted) {
    const action = FAULTS[Math.floor(random() * FAULTS.length)];
    if (action === undefined) throw new Error('no fault');
    const times = 1 + Math.floor(random() * 4);
    count += times;
    await upstream.setFaults([{ match: action.kind === 'corrupt' ? CORRUPTED_BLOBS : BLOBS, times, action }]);
    await sleep(FAULT_PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
  await upstream.setFaults([]);
  return count;
}

function judge(
  samples: readonly ProcessSample[],
  before: ProcessSample,
  after: ProcessSample,
  result: SoakResult,
): string[] {
  const problems = growthProblems(samples);
  const mostStored = Math.max(...samples.map(({ storeMb }) => storeMb));
  if (mostStored > (STORE_MIB * 2 ** 20) / 1e6) problems.push(`the store held ${mostStored} MB`);
  if (after.fills > 0) problems.push(`${after.fills} fills are left`);
  if (after.descriptors > before.descriptors + DESCRIPTORS_LEFT)
    problems.push(`${after.descriptors} descriptors are left of ${before.descriptors}`);
  for (const [name, { done, failed }] of Object.entries(result)) {
    if (done < failed) problems.push(`${name} failed ${failed} times and ended well only ${done} times`);
  }
  return problems;
}

function describeWork(result: SoakResult): ReportRow[] {
  return Object.entries(result).map(([name, { done, failed }]) => ({
    what: name,
    done,
    'failed with an error': failed,
    'wrong bytes': 0,
  }));
}

function drawMemory(samples: readonly ProcessSample[], minutes: number): Chart {
  return {
    ...timeChart(
      'memory',
      `Memory and store of the proxy in ${minutes} minutes of mixed load and faults`,
      'MB',
    ),
    series: [
      lineOf('resident', samples, ({ residentMb }) => residentMb),
      lineOf('heap', samples, ({ heapMb }) => heapMb),
      lineOf('buffers', samples, ({ externalMb }) => externalMb),
      lineOf('store', samples, ({ storeMb }) => storeMb),
    ],
  };
}

function drawHeld(samples: readonly ProcessSample[], minutes: number): Chart {
  return {
    ...timeChart(
      'held',
      `Descriptors, fills and event loop of the proxy in ${minutes} minutes`,
      'count, milliseconds',
    ),
    series: [
      lineOf('open descriptors', samples, ({ descriptors }) => descriptors),
      lineOf('fills', samples, ({ fills }) => fills),
      lineOf('event loop p99 ms', samples, ({ eventLoopMs }) => eventLoopMs),
    ],
  };
}

function timeChart(name: string, title: string, label: string): Omit<Chart, 'series'> {
  return { name, title, kind: 'lines', x: { label: 'seconds' }, y: { label } };
}

function lineOf(
  name: string,
  samples: readonly ProcessSample[],
  measure: (sample: ProcessSample) => number,
): Chart['series'][number] {
  return { name, points: samples.map((sample) => [sample.atSeconds, measure(sample)] as const) };
}
