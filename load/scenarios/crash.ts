import { setTimeout as sleep } from 'node:timers/promises';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { WrongBytesError } from '../clients/blob-checker.ts';
import type { Chart } from '../reports/chart.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { percentile } from '../reports/percentile.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import { SamplePuller } from '../samples/sample-pull.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';

const REGISTRY = { latencyMs: 20, bytesPerSecond: 25e6 };
/** About 40 MB compressed. */
const LAYER_MIB = 90;
const CLIENTS = 4;
const KILLS = 50;
const SEED = 1;
/**
 * Share of the image sent by the upstream at the latest kill; above 1 if everything has arrived and is being
 * served.
 */
const LATEST = 1.1;
const POLL_MS = 2;
/** Percentage points of the image per bar of the histogram. */
const BAR_PERCENT = 10;

interface Crash {
  /** Share of the image that the upstream should have sent before the kill. */
  readonly moment: number;
  /** Clients that had the whole image at the kill. */
  readonly served: number;
  /** Shares of the image that the upstream sent before and after the kill. */
  readonly before: number;
  readonly after: number;
}

/** The proxy is killed during a burst and started again. */
export const crash: Scenario = {
  name: 'crash',
  question: 'If the proxy is killed in a burst and restarted: is every byte right, what is fetched twice?',
  async run({ clients: [clients = CLIENTS] = [], log }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB });
    await using upstream = await DemoUpstream.startWith([image], REGISTRY);
    log(`seed ${SEED}`);
    const random = seededRandom(SEED);
    const crashes: Crash[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const moment = random() * LATEST;
      const crash = await crashOnce({ upstream, image, root: folder.next(), clients, moment });
      crashes.push(crash);
      log(`kill ${kill + 1} of ${KILLS}, at ${printShare(moment)}: ${printShare(redone(crash))} redone`);
    }
    return { rows: describe(crashes, clients), charts: [drawRedone(crashes), drawKept(crashes)] };
  },
};

/** Waits until the upstream has sent this many bytes, or the clients are done. */
async function waitForMoment(upstream: DemoUpstream, bytes: number, pulls: Promise<unknown>): Promise<void> {
  let isOver = false;
  void pulls.then(() => (isOver = true));
  while (!isOver && (await upstream.totals()).bytesSent < bytes) await sleep(POLL_MS);
}

function startPulls(
  proxy: ProxyProcess,
  image: SampleImage,
  clients: number,
): ReturnType<SamplePuller['pull']>[] {
  const puller = new SamplePuller(proxy.url, proxy.repositoryOf(image.repository), image);
  return Array.from({ length: clients }, () => puller.pull());
}

/**
 * @throws WrongBytesError if a client gets wrong bytes, before or after; Error if the second process does not
 * serve the image
 */
async function crashOnce(options: {
  upstream: DemoUpstream;
  image: SampleImage;
  root: string;
  clients: number;
  moment: number;
}): Promise<Crash> {
  const { upstream, image, root, clients, moment } = options;
  await upstream.forget();
  const first = await ProxyProcess.start({ upstreamUrl: upstream.url, root });
  const pulls = Promise.allSettled(startPulls(first, image, clients));
  await waitForMoment(upstream, moment * image.bytes, pulls);
  await first.kill();
  const outcomes = await pulls;
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected' && outcome.reason instanceof WrongBytesError) throw outcome.reason;
  }
  const { bytesSent: sentBefore } = await upstream.totals();
  await using second = await ProxyProcess.start({ upstreamUrl: upstream.url, root });
  await Promise.all(startPulls(second, image, 1));
  const { bytesSent } = await upstream.totals();
  return {
    moment,
    served: outcomes.filter(({ status }) => status === 'fulfilled').length,
    before: sentBefore / image.bytes,
    after: (bytesSent - sentBefore) / image.bytes,
  };
}

/** Share of the image that the upstream sent more than once. */
function redone({ before, after }: Crash): number {
  return Math.max(0, before + after - 1);
}

function describe(crashes: readonly Crash[], clients: number): ReportRow[] {
  const share = (name: string, values: readonly number[]): ReportRow => ({
    'share of the image': name,
    p50: printShare(percentile(values, 0.5)),
    p90: printShare(percentile(values, 0.9)),
    most: printShare(Math.max(...values)),
  });
  const finished = crashes.filter(({ served }) => served === clients);
  return [
    { kills: crashes.length, clients, 'wrong bytes': 0, 'kills after all had been served': finished.length },
    share(
      'sent before the kill',
      crashes.map(({ before }) => before),
    ),
    share(
      'sent after the restart',
      crashes.map(({ after }) => after),
    ),
    share('sent twice', crashes.map(redone)),
    share(
      'sent after the restart, where all clients had been served',
      finished.map(({ after }) => after),
    ),
  ];
}

function printShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function drawRedone(crashes: readonly Crash[]): Chart {
  const bars = 100 / BAR_PERCENT;
  const barOf = (crash: Crash): number => Math.min(bars - 1, Math.floor((redone(crash) * 100) / BAR_PERCENT));
  return {
    name: 'redone',
    title: `${crashes.length} kills: how much of the image was fetched twice`,
    kind: 'bars',
    x: {
      label: 'percent of the image',
      categories: Array.from({ length: bars }, (_, bar) => `${bar * BAR_PERCENT}-${(bar + 1) * BAR_PERCENT}`),
    },
    y: { label: 'kills' },
    series: [
      {
        name: 'kills',
        points: Array.from(
          { length: bars },
          (_, bar) => [bar, crashes.filter((crash) => barOf(crash) === bar).length] as const,
        ),
      },
    ],
  };
}

function drawKept(crashes: readonly Crash[]): Chart {
  const sorted = crashes.toSorted((a, b) => a.moment - b.moment);
  const line = (name: string, measure: (crash: Crash) => number): Chart['series'][number] => ({
    name,
    points: sorted.map((crash) => [crash.moment * 100, measure(crash) * 100] as const),
  });
  return {
    name: 'kept',
    title: 'What the upstream sent before the kill and after the restart',
    kind: 'lines',
    x: { label: 'moment of the kill: percent of the image that the upstream had sent' },
    y: { label: 'percent of the image' },
    series: [
      line('before', ({ before }) => before),
      line('after', ({ after }) => after),
      line('twice', redone),
    ],
  };
}
