import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { BlobChecker } from '../clients/blob-checker.ts';
import { openConnection } from '../clients/client-connection.ts';
import type { Chart } from '../reports/chart.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { startDockerRegistryMirror } from '../peers/docker-registry-mirror.ts';
import { serveFilesWithNginx } from '../peers/nginx.ts';
import type { Peer } from '../peers/peer.ts';
import { createTrustedCertificate } from '../processes/listener-certificate.ts';
import { percentile } from '../reports/percentile.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import type { RandomRangesOptions, RandomRangesResult } from '../clients/random-ranges-main.ts';
import { ReceivingConnection } from '../clients/receiving-connection.ts';
import { runClient, runJsonProgram } from '../clients/run-client.ts';
import { largeLayer, type SampleBlob, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { type Wire, WIRES } from '../clients/wire.ts';
import type { WholeBlobsOptions, WholeBlobsResult } from '../clients/whole-blobs-main.ts';

const REPOSITORY = 'app';
const LAYER_MIB = 130;
const CONNECTIONS = 16;
const RANGE_BYTES = 64 * 1024;
const ROUNDS = 5;
const SECONDS = 3;
const CHECKED_RANGES = 200;
const SEED = 20;

const RANGES_MAIN = new URL('../clients/random-ranges-main.ts', import.meta.url).pathname;
const WHOLE_MAIN = new URL('../clients/whole-blobs-main.ts', import.meta.url).pathname;
const RANGES_SCRIPT = new URL('../clients/random-ranges.lua', import.meta.url).pathname;

interface Sample {
  readonly bytes: number;
  readonly answers: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly serverSeconds: number;
  readonly clientSeconds: number;
}

type Load = (given: {
  readonly peer: Peer;
  readonly wire: Wire;
  readonly blob: SampleBlob;
}) => Promise<Omit<Sample, 'serverSeconds'>>;

/** A stored blob, whole and in ranges. */
export const warm: Scenario = {
  name: 'warm',
  question: 'A blob that is there: how fast is it sent, whole and in ranges of 64 KiB?',
  async run({ log, capOf, wires = WIRES, rounds = ROUNDS }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: REPOSITORY, layerMib: LAYER_MIB });
    const blob = largeLayer(image);
    await using upstream = await DemoUpstream.startWith([image], {});
    await using certificate = await createTrustedCertificate();
    const rows: ReportRow[] = [];
    for (const wire of wires) {
      const tls = wire === 'http' ? undefined : certificate;
      await using stack = new AsyncDisposableStack();
      const { url: upstreamUrl } = upstream;
      const peers = new Map<string, Peer>([
        ['proxy', stack.use(await ProxyProcess.start({ upstreamUrl, root: folder.next(), tls }))],
        ['nginx sendfile', stack.use(await serveFilesWithNginx(folder.next(), folder.path, tls))],
      ]);
      if (tls === undefined && capOf('docker-registry') !== 0)
        peers.set('docker-registry', stack.use(await startDockerRegistryMirror(folder.next(), upstreamUrl)));
      for (const [name, peer] of peers) {
        log(`${wire}, ${name}: filling and checking`);
        await check(peer, wire, blob);
      }
      for (const [what, load] of LOADS)
        rows.push(...(await compare({ what, wire, peers, blob, load, rounds, log })));
    }
    return { rows, charts: [drawSpeeds(rows)] };
  },
};

/** The whole blob twice, and random ranges, verified byte by byte. */
async function check(peer: Peer, wire: Wire, blob: SampleBlob): Promise<void> {
  const repository = peer.repositoryOf(REPOSITORY);
  const checker = new BlobChecker(repository);
  using connection = await openConnection(peer.url, wire, ReceivingConnection.receiveBuffer());
  await checker.fetch(connection, blob);
  // docker-registry stores the blob after the response, and until then ignores ranges.
  for (let status = 0; status !== 206;) {
    ({ status } = await connection.get(`/v2/${repository}/blobs/${blob.digest}`, { range: '0-0' }));
  }
  await checker.fetch(connection, blob);
  const random = seededRandom(SEED);
  for (let count = 0; count < CHECKED_RANGES; count++) {
    const start = Math.floor(random() * (blob.size - RANGE_BYTES));
    await checker.fetch(connection, blob, { start, end: start + RANGE_BYTES });
  }
}

/** All peers in turn, for several rounds; the first round is not counted. */
async function compare(given: {
  readonly what: string;
  readonly wire: Wire;
  readonly peers: ReadonlyMap<string, Peer>;
  readonly blob: SampleBlob;
  readonly load: Load;
  readonly rounds: number;
  readonly log: (line: string) => void;
}): Promise<ReportRow[]> {
  const { what, wire, peers, blob, load, rounds, log } = given;
  const samples = new Map<string, Sample[]>([...peers.keys()].map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    log(`${wire}, ${what}: round ${round} of ${rounds}`);
    for (const [name, peer] of peers) {
      const before = await peer.cpuSeconds();
      const sample = await load({ peer, wire, blob });
      const serverSeconds = (await peer.cpuSeconds()) - before;
      if (round > 0) samples.get(name)?.push({ ...sample, serverSeconds });
    }
  }
  const reference = samples.get('nginx sendfile') ?? [];
  return [...samples].map(([name, own]) => ({ wire, what, peer: name, ...describe(own, reference) }));
}

/** Medians over the rounds; ratios use numbers of one round. */
function describe(own: readonly Sample[], reference: readonly Sample[]): ReportRow {
  const median = (measure: (sample: Sample) => number, digits: number): number =>
    Number(percentile(own.map(measure), 0.5).toFixed(digits));
  const speed = ({ bytes, seconds }: Sample): number => bytes / seconds;
  const serverCost = ({ serverSeconds, bytes }: Sample): number => serverSeconds / bytes;
  const paired = (measure: (sample: Sample) => number): number[] =>
    own.map((sample, round) => measure(sample) / measure(reference[round] ?? sample));
  const speeds = own.map((sample) => speed(sample) / 1e6);
  return {
    'MB/s': median((sample) => speed(sample) / 1e6, 0),
    'MB/s, slowest to fastest round': `${Math.min(...speeds).toFixed(0)}-${Math.max(...speeds).toFixed(0)}`,
    '÷ nginx': Number(percentile(paired(speed), 0.5).toFixed(2)),
    'answers/s': median(({ answers, seconds }) => answers / seconds, 0),
    'p50 ms': median(({ p50Ms }) => p50Ms, 2),
    'p99 ms': median(({ p99Ms }) => p99Ms, 2),
    'server CPU s/GB': median((sample) => serverCost(sample) * 1e9, 3),
    'client CPU s/GB': median(({ clientSeconds, bytes }) => (clientSeconds / bytes) * 1e9, 3),
    'server cores': median(({ serverSeconds, seconds }) => serverSeconds / seconds, 2),
    'client cores': median(({ clientSeconds, seconds }) => clientSeconds / seconds, 2),
  };
}

const fetchWhole: Load = async ({ peer, wire, blob }) => {
  const { result, cpuSeconds } = await runClient<WholeBlobsResult>(WHOLE_MAIN, {
    url: peer.url,
    wire,
    repository: peer.repositoryOf(REPOSITORY),
    blob,
    connections: CONNECTIONS,
    seconds: SECONDS,
    isChecked: false,
  } satisfies WholeBlobsOptions);
  return {
    bytes: result.bytes,
    answers: result.blobMs.length,
    seconds: result.seconds,
    p50Ms: percentile(result.blobMs, 0.5),
    p99Ms: percentile(result.blobMs, 0.99),
    clientSeconds: cpuSeconds,
  };
};

/**
 * Uses wrk, which lacks HTTP/2. HTTP/2 numbers include the cost of a client in JavaScript, for all peers
 * alike.
 */
function rangesOver(connections: number): Load {
  return async ({ peer, wire, blob }) => {
    const path = `/v2/${peer.repositoryOf(REPOSITORY)}/blobs/${blob.digest}`;
    const client =
      wire === 'tls h2'
        ? await runClient<RandomRangesResult>(RANGES_MAIN, {
            url: peer.url,
            wire,
            path,
            blobBytes: blob.size,
            rangeBytes: RANGE_BYTES,
            connections,
            seconds: SECONDS,
            seed: SEED,
          } satisfies RandomRangesOptions)
        : await runJsonProgram<RandomRangesResult>('wrk', [
            '--threads=1',
            `--connections=${connections}`,
            `--duration=${SECONDS}s`,
            `--script=${RANGES_SCRIPT}`,
            peer.url,
            '--',
            path,
            String(blob.size),
            String(RANGE_BYTES),
            String(SEED),
          ]);
    const { requests, failed, microseconds, p50, p99 } = client.result;
    if (failed > 0) throw new Error(`${failed} of ${requests} ranges failed`);
    return {
      bytes: requests * RANGE_BYTES,
      answers: requests,
      seconds: microseconds / 1e6,
      p50Ms: p50 / 1000,
      p99Ms: p99 / 1000,
      clientSeconds: client.cpuSeconds,
    };
  };
}

function drawSpeeds(rows: readonly ReportRow[]): Chart {
  const kinds = [...new Set(rows.map(kindOf))];
  return {
    name: 'speeds',
    title: 'A warm layer of 60 MB over 16 connections, and over one',
    kind: 'bars',
    x: { label: '', categories: kinds },
    y: { label: 'MB/s' },
    series: [...new Set(rows.map(({ peer }) => String(peer)))].map((name) => ({
      name,
      points: rows
        .filter(({ peer }) => peer === name)
        .map((row) => [kinds.indexOf(kindOf(row)), Number(row['MB/s'])] as const),
    })),
  };
}

function kindOf({ wire, what }: ReportRow): string {
  return `${wire}: ${what}`;
}

const LOADS: readonly (readonly [what: string, load: Load])[] = [
  ['whole', fetchWhole],
  ['64 KiB ranges', rangesOver(CONNECTIONS)],
  ['64 KiB ranges, one client', rangesOver(1)],
];
