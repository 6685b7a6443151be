import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import type { BurstOptions } from '../clients/burst-clients-main.ts';
import type { Chart } from '../reports/chart.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { createTrustedCertificate } from '../processes/listener-certificate.ts';
import { COLD_PEERS } from '../peers/cold-peers.ts';
import type { Peer } from '../peers/peer.ts';
import { percentile } from '../reports/percentile.ts';
import { runClient } from '../clients/run-client.ts';
import { type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { SamplePull } from '../samples/sample-pull.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { type Wire, WIRES } from '../clients/wire.ts';

const REGISTRY = { latencyMs: 20, bytesPerSecond: 25e6 };
/** About 60 MB compressed. */
const LAYER_MIB = 130;
const CLIENTS = [1, 50, 200, 400];
/** For these peers each client costs another whole image, and minutes of the run. */
const CAPS: Readonly<Record<string, number>> = { direct: 50, 'docker-registry': 200 };
/** Rounds per number of clients; the medians are reported. */
const ROUNDS_OF_ONE_CLIENT = 3;

/** The upstream and docker-registry are measured without TLS only. */
const TLS_PATHS: ReadonlySet<string> = new Set(['proxy', 'nginx slice']);

const CLIENTS_MAIN = new URL('../clients/burst-clients-main.ts', import.meta.url).pathname;

interface Burst {
  readonly clients: number;
  readonly wire: Wire;
  readonly path: string;
  /** From the first request to the last byte of the last client. */
  readonly allMs: number;
  readonly pulls: readonly SamplePull[];
  readonly upstreamRequests: number;
  readonly upstreamBytes: number;
  readonly serverSeconds: number;
  readonly upstreamSeconds: number;
  readonly clientSeconds: number;
  readonly extra: ReportRow;
}

/** N clients pull one cold image concurrently. */
export const burst: Scenario = {
  name: 'burst',
  question: 'N clients pull one cold image at once: what does the upstream send, and how long does it take?',
  async run({ clients: counts = CLIENTS, wires = WIRES, rounds = ROUNDS_OF_ONE_CLIENT, capOf, log }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB });
    await using upstream = await DemoUpstream.startWith([image], REGISTRY);
    await using certificate = await createTrustedCertificate();
    const rows: ReportRow[] = [];
    for (const wire of wires) {
      const paths = ['direct', ...Object.keys(COLD_PEERS)].filter(
        (path) => wire === 'http' || TLS_PATHS.has(path),
      );
      for (const clients of counts) {
        // Paired in one run: the same clients use the same upstream directly and through each cache.
        const bursts = new Map<string, Burst[]>();
        for (let round = 0; round < (clients === 1 ? rounds : 1); round++) {
          for (const path of paths) {
            if (clients > (capOf(path) ?? CAPS[path] ?? Infinity)) continue;
            log(`${wire}: ${clients} client(s), ${path}`);
            const one = await runBurst({ path, wire, clients, image, upstream, certificate, folder });
            bursts.set(path, [...(bursts.get(path) ?? []), one]);
          }
        }
        const medians = [...bursts.values()].map(median);
        rows.push(...medians.map((one) => describe(one, medians, image)));
        for (const path of paths)
          if (!bursts.has(path))
            rows.push({ wire, clients, path, note: 'left out: above its cap of clients' });
      }
    }
    const plain = rows.filter(({ wire }) => wire === (wires[0] ?? 'http'));
    return { rows, charts: [drawTimes(plain), drawBytes(plain)] };
  },
};

async function runBurst(options: {
  path: string;
  wire: Wire;
  clients: number;
  image: SampleImage;
  upstream: DemoUpstream;
  certificate: CertificateFiles;
  folder: ScratchFolder;
}): Promise<Burst> {
  const { path, wire, clients, image, upstream, certificate, folder } = options;
  const tls = wire === 'http' ? undefined : certificate;
  const create = COLD_PEERS[path];
  await using peer = create === undefined ? undefined : await create(folder.next(), upstream.url, tls);
  await upstream.forget();
  const before = { upstream: await upstream.cpuSeconds(), server: (await peer?.cpuSeconds()) ?? 0 };
  const { result: pulls, cpuSeconds } = await runClient<SamplePull[]>(CLIENTS_MAIN, {
    url: peer?.url ?? upstream.url,
    wire,
    repository: peer?.repositoryOf(image.repository) ?? image.repository,
    image,
    clients,
  } satisfies BurstOptions);
  const { requestCount, bytesSent } = await upstream.totals();
  return {
    clients,
    wire,
    path,
    allMs: Math.max(...pulls.map(({ totalMs }) => totalMs)),
    pulls,
    upstreamRequests: requestCount,
    upstreamBytes: bytesSent,
    serverSeconds: ((await peer?.cpuSeconds()) ?? 0) - before.server,
    upstreamSeconds: (await upstream.cpuSeconds()) - before.upstream,
    clientSeconds: cpuSeconds,
    extra: peer === undefined ? {} : await describePeer(peer),
  };
}

async function describePeer(peer: Peer): Promise<ReportRow> {
  return { 'peak MB': Math.round((await peer.peakMemoryBytes()) / 1e6) };
}

/** The burst with the median time. */
function median(bursts: readonly Burst[]): Burst {
  const sorted = bursts.toSorted((a, b) => a.allMs - b.allMs);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  if (middle === undefined) throw new Error('no burst');
  return middle;
}

function describe(own: Burst, all: readonly Burst[], { bytes: imageBytes }: SampleImage): ReportRow {
  const times = own.pulls.map(({ totalMs }) => totalMs);
  const firsts = own.pulls.map(({ firstByteMs }) => firstByteMs);
  const speedRatio = (path: string): ReportRow => {
    const other = all.find((burst) => burst.path === path);
    return other === undefined ? {} : { [`speed ÷ ${path}`]: Number((other.allMs / own.allMs).toFixed(2)) };
  };
  return {
    wire: own.wire,
    clients: own.clients,
    path: own.path,
    'upstream ÷ image': Number((own.upstreamBytes / imageBytes).toFixed(3)),
    'upstream requests': own.upstreamRequests,
    'first byte p50 s': toSeconds(percentile(firsts, 0.5)),
    'total p50 s': toSeconds(percentile(times, 0.5)),
    'all s': toSeconds(own.allMs),
    ...speedRatio('direct'),
    ...speedRatio('nginx slice'),
    'server CPU s': Number(own.serverSeconds.toFixed(2)),
    'upstream CPU s': Number(own.upstreamSeconds.toFixed(2)),
    'client CPU s': Number(own.clientSeconds.toFixed(2)),
    ...own.extra,
  };
}

function toSeconds(ms: number): number {
  return Number((ms / 1000).toFixed(2));
}

function drawTimes(rows: readonly ReportRow[]): Chart {
  return {
    name: 'times',
    title: 'All clients have the cold image of 60 MB (upstream: 20 ms, 25 MB/s per connection)',
    kind: 'lines',
    x: { label: 'clients at once', isLogarithmic: true },
    y: { label: 'seconds', isLogarithmic: true },
    series: seriesOf(rows, 'all s'),
  };
}

function drawBytes(rows: readonly ReportRow[]): Chart {
  return {
    name: 'upstream',
    title: 'What the upstream sends, by the size of the image',
    kind: 'lines',
    x: { label: 'clients at once', isLogarithmic: true },
    y: { label: 'upstream ÷ image', isLogarithmic: true },
    series: seriesOf(rows, 'upstream ÷ image'),
  };
}

function seriesOf(rows: readonly ReportRow[], column: string): Chart['series'] {
  return [...new Set(rows.map(({ path }) => String(path)))].map((path) => ({
    name: path,
    points: rows
      .filter((row) => row['path'] === path && row[column] !== undefined)
      .map((row) => [Number(row['clients']), Number(row[column])] as const),
  }));
}
