import { setTimeout as sleep } from 'node:timers/promises';

import { PASS } from '../../test/helpers/faults/fault-proxy.ts';
import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { runClient } from '../clients/run-client.ts';
import type { SoakOptions, SoakResult } from '../clients/soak-clients-main.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { sampleProcess, takeSample } from '../processes/process-samples.ts';
import { ReplicaGroup } from '../processes/replica-group.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { describeGrowth, growthProblems } from '../reports/growth.ts';
import { type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';

const MINUTES = 10;
const CLIENTS = 12;
const REPLICAS = 3;
const SEED = 7;
const IMAGES = 5;
const LAYER_MIB = 20;
/** Less than all images, so that blobs are evicted. */
const STORE_MIB = 48;
const REGISTRY = { latencyMs: 5, bytesPerSecond: 50e6, maxLoggedRequests: 100 };
/** Attempts of a client, a quarter of a second apart: a node retries for longer. */
const TRIES = 40;
const PAUSE_MS = 3000;
/** Longer than any timeout of the replicas' own connections, and than a lease lives. */
const REST_MS = 15_000;
/** As of one proxy, and connections to the nodes of Redis, to the other replicas and to the bucket. */
const DESCRIPTORS_LEFT = 120;

const CLIENTS_MAIN = new URL('../clients/soak-clients-main.ts', import.meta.url).pathname;

/** Something that goes wrong, and is well again when it resolves. */
type Event = readonly [name: string, run: (group: ReplicaGroup, random: () => number) => Promise<void>];

/** The first replica is never killed: it shows whether anything grows. */
const EVENTS: readonly Event[] = [
  [
    'a replica is killed and started again',
    async (group, random) => {
      const place = 1 + Math.floor(random() * (REPLICAS - 1));
      await group.restart(place, 'kill', 500 + random() * 2000);
    },
  ],
  [
    'a replica freezes',
    async ({ replicas }, random) => {
      const replica = replicas[Math.floor(random() * REPLICAS)];
      replica?.freeze();
      await sleep(300 + random() * 4000);
      replica?.thaw();
    },
  ],
  [
    'a node of Redis is killed and started again',
    async ({ redis }, random) => {
      const node = redis.nodes[Math.floor(random() * redis.nodes.length)];
      await node?.stop();
      await sleep(random() * 3000);
      await node?.resume();
    },
  ],
  [
    'all of Redis is killed and started again',
    async ({ redis }, random) => {
      await Promise.all(redis.nodes.map((node) => node.stop()));
      await sleep(random() * 3000);
      await Promise.all(redis.nodes.map((node) => node.resume()));
    },
  ],
  ...(['reset', 'stall'] as const).map((kind): Event => [
    `S3: ${kind}`,
    async ({ bucketFaults }, random) => {
      bucketFaults.fault = () => ({ kind });
      await sleep(random() * 5000);
      bucketFaults.fault = () => PASS;
      bucketFaults.seen.length = 0;
    },
  ]),
];

/** Replicas under mixed load while parts of them, of Redis and of the bucket die and come back. */
export const replicaSoak: Scenario = {
  name: 'replica-soak',
  question:
    'Replicas, Redis and S3 die and come back under mixed load: is every byte right, does anything grow?',
  async run({ minutes = MINUTES, clients: [clients = CLIENTS] = [], log }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const images: SampleImage[] = [];
    for (let place = 0; place < IMAGES; place++)
      images.push(await writeSampleImage(folder.path, { repository: `app${place}`, layerMib: LAYER_MIB }));
    await using upstream = await DemoUpstream.startWith(images, REGISTRY);
    await using group = await ReplicaGroup.start({
      upstreamUrl: upstream.url,
      folder,
      replicas: REPLICAS,
      environment: {
        SPANDREL_STORAGE_MAX_BYTES: `${STORE_MIB}MiB`,
        SPANDREL_CACHE_MEMORY_BYTES: '64MiB',
        SPANDREL_LOG_LEVEL: 'fatal',
      },
    });
    const [watched] = group.replicas;
    if (watched === undefined) throw new Error('there are no replicas');
    const startedMs = performance.now();
    const before = await takeSample(watched, startedMs);
    log(`${minutes} minutes, seed ${SEED}`);
    const ended = new AbortController();
    const sampling = sampleProcess(watched, ended.signal);
    const events = causeEvents(group, ended.signal, log);
    const working = runClient<SoakResult>(CLIENTS_MAIN, {
      url: group.balancer.url,
      images: images.map((image) => ({ image, repository: `demo/${image.repository}`, isCorrupted: false })),
      clients,
      seconds: minutes * 60,
      seed: SEED,
      tries: TRIES,
    } satisfies SoakOptions);
    const { result } = await working.finally(() => ended.abort());
    const samples = await sampling;
    const caused = await events;
    log('resting');
    await sleep(REST_MS);
    const after = await takeSample(watched, startedMs);
    const problems = [
      ...growthProblems(samples),
      ...(await leftOver(group)),
      ...Object.entries(result).flatMap(([name, { lost }]) =>
        lost === 0 ? [] : [`${name}: ${lost} were lost although the client tried ${TRIES} times`],
      ),
    ];
    if (after.descriptors > before.descriptors + DESCRIPTORS_LEFT)
      problems.push(`${after.descriptors} descriptors are left of ${before.descriptors}`);
    return {
      rows: [
        ...describeWork(result),
        ...[...caused].map(([event, count]) => ({ event, count })),
        ...describeGrowth(samples, before, after),
      ],
      ...(problems.length === 0 ? {} : { failure: problems.join('; ') }),
    };
  },
};

/** One event after the other until the signal aborts; counts by name. */
async function causeEvents(
  group: ReplicaGroup,
  signal: AbortSignal,
  log: (line: string) => void,
): Promise<Map<string, number>> {
  const random = seededRandom(SEED);
  const counts = new Map<string, number>();
  while (!signal.aborted) {
    const [name, run] = EVENTS[Math.floor(random() * EVENTS.length)] ?? ['', () => Promise.resolve()];
    log(name);
    counts.set(name, (counts.get(name) ?? 0) + 1);
    await run(group, random);
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
  return counts;
}

/** What replicas hold although nobody wants anything any more. */
async function leftOver(group: ReplicaGroup): Promise<string[]> {
  const problems: string[] = [];
  for (const [place, replica] of group.replicas.entries()) {
    const metric = await replica.metrics();
    const fills = metric('spandrel_fills_in_progress');
    const leases = (await replica.heldLeases()).length;
    if (fills > 0) problems.push(`replica ${place}: ${fills} fills are left`);
    if (leases > 0) problems.push(`replica ${place}: ${leases} leases are left`);
    if (metric('spandrel_replicas') !== REPLICAS)
      problems.push(`replica ${place} knows ${metric('spandrel_replicas')} replicas`);
  }
  return problems;
}

function describeWork(result: SoakResult): ReportRow[] {
  return Object.entries(result).map(([what, { done, failed, lost }]) => ({
    what,
    done,
    'attempts that failed': failed,
    lost,
    'wrong bytes': 0,
  }));
}
