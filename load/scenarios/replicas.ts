import { setTimeout as sleep } from 'node:timers/promises';

import type { PatientClientsOptions } from '../clients/patient-clients-main.ts';
import type { PatientPull } from '../clients/patient-puller.ts';
import { runClient } from '../clients/run-client.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { ReplicaGroup } from '../processes/replica-group.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { TcpBalancer } from '../processes/tcp-balancer.ts';
import { percentile } from '../reports/percentile.ts';
import { largeLayer, type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';

/** Slower than two busy cores pass bytes on: otherwise a killed replica has much that no other has yet. */
const REGISTRY = { latencyMs: 20, bytesPerSecond: 1e6 };
const CLIENTS = 200;
const REPLICAS = 3;
/** About 60 MB compressed. */
const LAYER_MIB = 130;
/** Share of the image that the upstream has sent when the event happens. */
const MIDDLE = 0.4;
const LOOK_MS = 10;

const CLIENTS_MAIN = new URL('../clients/patient-clients-main.ts', import.meta.url).pathname;

interface Case {
  readonly name: string;
  /** Upstream bytes at most, as a multiple of the image. */
  readonly mostUpstream: number;
  readonly environment?: Readonly<Record<string, string>>;
  /** What the upstream sends to the replica after the event does not count: its kernel goes on to receive. */
  readonly isFrozen?: boolean;
  /** Happens in the middle of the burst, to the replica that fetches the large layer. */
  readonly event?: (group: ReplicaGroup, owner: ProxyProcess) => Promise<void> | void;
}

const CASES: readonly Case[] = [
  { name: 'all well', mostUpstream: 1.01 },
  { name: 'the fetching replica is killed', mostUpstream: 1.2, event: (_, owner) => owner.kill() },
  {
    name: 'the fetching replica freezes',
    mostUpstream: 1.2,
    isFrozen: true,
    event: (_, owner) => owner.freeze(),
  },
  {
    name: 'Redis is killed',
    mostUpstream: REPLICAS,
    event: async ({ redis }) => {
      await Promise.all([...redis.nodes, redis.copy].map((node) => node.stop()));
    },
  },
  {
    name: 'S3 is killed',
    mostUpstream: 1.01,
    event: ({ bucket }) => bucket[Symbol.asyncDispose](),
  },
  {
    name: 'a fourth replica joins',
    mostUpstream: 1.01,
    event: async (group) => {
      await group.add();
    },
  },
  {
    name: 'a rolling restart',
    mostUpstream: 1.2,
    // The delay is longer than the balancer needs to notice. Half of the grace is for the others, which read
    // what only the stopping replica has; then clients of long responses ask another one for the rest.
    environment: { SPANDREL_SHUTDOWN_DELAY_MS: '750', SPANDREL_SHUTDOWN_GRACE_MS: '12000' },
    event: async (group, owner) => {
      const first = group.replicas.indexOf(owner);
      for (let turn = 0; turn < REPLICAS; turn++) await group.restart((first + turn) % REPLICAS, 'stop');
    },
  },
  { name: 'a node of Redis fails over', mostUpstream: 1.2, event: ({ redis }) => redis.failOver() },
];

/** A cold burst over several replicas that act as one, and what happens when a part of them dies. */
export const replicas: Scenario = {
  name: 'replicas',
  question:
    'A cold image is pulled through three replicas, and a part dies: what does the upstream send, how long?',
  async run({ clients: [clients = CLIENTS] = [], log }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB });
    await using upstream = await DemoUpstream.startWith([image], REGISTRY);
    const burst = { upstream, image, clients, folder, log };
    const alone = await pullThroughOne(burst);
    const rows: ReportRow[] = [{ case: 'one replica', ...alone }];
    const problems: string[] = [];
    for (const one of CASES) {
      const row = await pullThroughGroup(burst, one);
      rows.push({
        case: one.name,
        ...row,
        'all s ÷ one replica': rounded(row['all s'] / alone['all s']),
      });
      const sent = one.isFrozen
        ? Number(row['before the event']) + Number(row['received by the others'])
        : row['upstream ÷ image'];
      if (sent > one.mostUpstream) problems.push(`${one.name}: the upstream sent ${sent} times the image`);
      if (one.event === undefined && row['index builds'] !== alone['index builds'])
        problems.push(`${one.name}: ${row['index builds']} builds instead of ${alone['index builds']}`);
    }
    return { rows, ...(problems.length === 0 ? {} : { failure: problems.join('; ') }) };
  },
};

interface Burst {
  readonly upstream: DemoUpstream;
  readonly image: SampleImage;
  readonly clients: number;
  readonly folder: ScratchFolder;
  readonly log: (line: string) => void;
}

type BurstRow = ReturnType<typeof describe>;

async function pullThroughOne({ upstream, image, clients, folder, log }: Burst): Promise<BurstRow> {
  log(`one replica, ${clients} clients`);
  await upstream.forget();
  await using proxy = await ProxyProcess.start({ upstreamUrl: upstream.url, root: folder.next() });
  await using balancer = await TcpBalancer.start([proxy]);
  const pulls = await pullAll(balancer.url, image, clients);
  await settle(async () => (await proxy.metrics())(BUILDS));
  const { bytesSent, requestCount } = await upstream.totals();
  const metric = await proxy.metrics();
  return describe(pulls, image, {
    bytesSent,
    requestCount,
    builds: metric(BUILDS),
    happened: undefined,
    cpuSeconds: await proxy.cpuSeconds(),
  });
}

const BUILDS = 'spandrel_index_builds_total';
const RECEIVED = 'spandrel_upstream_bytes_total';

async function pullThroughGroup(
  { upstream, image, clients, folder, log }: Burst,
  { name, environment = {}, event }: Case,
): Promise<BurstRow> {
  log(`three replicas, ${clients} clients: ${name}`);
  await upstream.forget();
  await using group = await ReplicaGroup.start({
    upstreamUrl: upstream.url,
    folder,
    replicas: REPLICAS,
    environment,
  });
  const ended = new AbortController();
  const happening = event === undefined ? undefined : happen(group, upstream, image, event, ended.signal);
  const pulls = await pullAll(group.balancer.url, image, clients);
  ended.abort();
  const { bytesSent, requestCount } = await upstream.totals();
  const happened = await happening;
  if (event !== undefined && happened === undefined) throw new Error(`${name}: the burst was over before`);
  const others = group.replicas.filter((replica) => replica !== happened?.owner);
  const received = await Promise.all(others.map(async (replica) => (await replica.metrics())(RECEIVED)));
  const receivedByOthers = received.reduce((sum, bytes) => sum + bytes, 0);
  for (const replica of group.replicas) replica.thaw();
  await settle(() => group.metric(BUILDS));
  const cpuSeconds = await Promise.allSettled(group.replicas.map((replica) => replica.cpuSeconds()));
  return describe(pulls, image, {
    bytesSent,
    requestCount,
    builds: await group.metric(BUILDS),
    happened: happened && { sentBefore: happened.sentBefore, receivedByOthers },
    cpuSeconds: cpuSeconds.reduce((sum, cpu) => sum + (cpu.status === 'fulfilled' ? cpu.value : 0), 0),
  });
}

/**
 * Lets the event happen in the middle of the burst. Returns what the upstream had sent then; `undefined` if
 * the burst ended before.
 */
async function happen(
  group: ReplicaGroup,
  upstream: DemoUpstream,
  image: SampleImage,
  event: NonNullable<Case['event']>,
  signal: AbortSignal,
): Promise<{ sentBefore: number; owner: ProxyProcess } | undefined> {
  const { digest } = largeLayer(image);
  let owner: ProxyProcess | undefined;
  while (!signal.aborted) {
    owner ??= await group.ownerOf(digest);
    const { bytesSent } = await upstream.totals();
    if (owner !== undefined && bytesSent >= MIDDLE * image.bytes) {
      await event(group, owner);
      return { sentBefore: bytesSent, owner };
    }
    await sleep(LOOK_MS);
  }
  return undefined;
}

async function pullAll(url: string, image: SampleImage, clients: number): Promise<PatientPull[]> {
  const options = { url, repository: `demo/${image.repository}`, image, clients };
  const { result } = await runClient<PatientPull[]>(CLIENTS_MAIN, options satisfies PatientClientsOptions);
  return result;
}

const SETTLED_LOOKS = 8;
const SETTLE_PAUSE_MS = 250;

/** Waits until a number stays the same for two seconds: builds go on after the last byte. */
async function settle(measure: () => Promise<number>): Promise<void> {
  let [last, same] = [Number.NaN, 0];
  while (same < SETTLED_LOOKS) {
    const next = await measure();
    same = next === last ? same + 1 : 0;
    last = next;
    await sleep(SETTLE_PAUSE_MS);
  }
}

function describe(
  pulls: readonly PatientPull[],
  image: SampleImage,
  totals: {
    bytesSent: number;
    requestCount: number;
    builds: number;
    happened: { sentBefore: number; receivedByOthers: number } | undefined;
    cpuSeconds: number;
  },
) {
  const times = pulls.map(({ totalMs }) => totalMs / 1000);
  return {
    clients: pulls.length,
    'upstream ÷ image': Number((totals.bytesSent / image.bytes).toFixed(3)),
    'before the event': share(totals.happened?.sentBefore, image),
    'received by the others': share(totals.happened?.receivedByOthers, image),
    'upstream requests': totals.requestCount,
    'index builds': totals.builds,
    'wrong bytes': 0,
    retries: pulls.reduce((sum, { retries }) => sum + retries, 0),
    'longest pause s': rounded(Math.max(...pulls.map(({ longestPauseMs }) => longestPauseMs)) / 1000),
    'total p50 s': rounded(percentile(times, 0.5)),
    'all s': rounded(Math.max(...times)),
    'CPU s': rounded(totals.cpuSeconds),
  };
}

function share(bytes: number | undefined, image: SampleImage): number | '' {
  return bytes === undefined ? '' : Number((bytes / image.bytes).toFixed(3));
}

function rounded(value: number): number {
  return Number(value.toFixed(2));
}
