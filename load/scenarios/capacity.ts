import { setTimeout as sleep } from 'node:timers/promises';

import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import { runProgram } from '../../test/helpers/programs.ts';
import { RedisServer } from '../../test/helpers/upstreams/redis-server.ts';
import { openConnection } from '../clients/client-connection.ts';
import { ReceivingConnection } from '../clients/receiving-connection.ts';
import type { Wire } from '../clients/wire.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { createTrustedCertificate } from '../processes/listener-certificate.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { largeLayer, type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';

const LAYER_MIB = 130;
const MIB = 2 ** 20;
const SPAN_BYTES = 256 * 1024;
const READERS = 16;
const TAG_REQUESTS = 4000;
const CONNECTIONS = 400;
const IDLE_CONNECTIONS = 2000;
const WARM_ROUNDS = 16;
const REPOSITORY = '/v2/demo/app';
const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
].join(', ');

/** What one kind of work costs one replica; the inputs of the simulation. */
export const capacity: Scenario = {
  name: 'capacity',
  question: 'What does each request of a start cost one replica: CPU, memory, commands to Redis?',
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB });
    await using upstream = await DemoUpstream.startWith([image], {});
    await using certificate = await createTrustedCertificate();
    await using redis = await RedisServer.start();
    const measured = { upstream, image, redis, log };
    return {
      rows: [
        await measureFill({ ...measured, root: folder.next() }),
        ...(await measureRequests({ ...measured, root: folder.next(), wire: 'http' })),
        ...(await measureRequests({ ...measured, root: folder.next(), wire: 'tls', tls: certificate })),
      ],
    };
  },
};

interface Measured {
  readonly upstream: DemoUpstream;
  readonly image: SampleImage;
  readonly redis: RedisServer;
  /** Of a store; empty. */
  readonly root: string;
  readonly log: (line: string) => void;
}

/** A blob that arrives from the upstream: fetched, written and verified, without an index. */
async function measureFill({ upstream, image, root, log }: Measured): Promise<ReportRow> {
  log('fill');
  const { digest, size } = largeLayer(image);
  const environment = { SPANDREL_INDEX_V1: 'false', SPANDREL_INDEX_V2: 'false' };
  await using proxy = await ProxyProcess.start({ upstreamUrl: upstream.url, root, environment });
  const request = { path: `${REPOSITORY}/blobs/${digest}` };
  // The first one compiles the code.
  await read(proxy.url, 'http', [request], 1);
  await proxy.forgetBlobs();
  const cost = await Cost.begin(proxy);
  await read(proxy.url, 'http', [request], 1);
  return await cost.describe('http', 'fill and send', 1, size);
}

async function measureRequests(
  options: Measured & { readonly wire: Wire; readonly tls?: CertificateFiles },
): Promise<ReportRow[]> {
  const { upstream, image, redis, root, wire, tls, log } = options;
  log(`${wire}: requests`);
  const environment = {
    SPANDREL_INDEX_V2_FORM: 'inflated',
    SPANDREL_CACHE_MEMORY_BYTES: '1GiB',
    SPANDREL_CACHE_REDIS_URL: redis.url,
  };
  await using proxy = await ProxyProcess.start({ upstreamUrl: upstream.url, root, tls, environment });
  const rows: ReportRow[] = [];
  const measure = async (
    what: string,
    count: number,
    work: () => Promise<void>,
    bytes?: number,
  ): Promise<void> => {
    const cost = await Cost.begin(proxy, redis);
    await work();
    rows.push(await cost.describe(wire, what, count, bytes));
  };
  const tag = { path: `${REPOSITORY}/manifests/latest`, accept: MANIFEST_TYPES };
  const { size, digest } = largeLayer(image);
  await until(async () => (await tarLayer(proxy.url)) !== undefined);
  const tar = await tarLayer(proxy.url);
  if (tar === undefined) throw new Error('the tag names no tar');
  await measure('tag', TAG_REQUESTS, () => read(proxy.url, wire, repeat([tag], TAG_REQUESTS), READERS));
  const spans = rangesOf(`${REPOSITORY}/blobs/${tar.digest}`, tar.size, SPAN_BYTES);
  // The second proxy finds in Redis what the first one has decompressed.
  const origin = wire === 'http' ? 'decompressed' : 'from Redis';
  await measure(
    `span of 256 KiB, ${origin}`,
    spans.length,
    () => read(proxy.url, wire, spans, READERS),
    SPAN_BYTES,
  );
  await measure(
    'span of 256 KiB, from memory',
    spans.length * WARM_ROUNDS,
    () => read(proxy.url, wire, repeat(spans, WARM_ROUNDS), READERS),
    SPAN_BYTES,
  );
  const compressed = rangesOf(`${REPOSITORY}/blobs/${digest}`, size, 4 * MIB);
  await measure(
    '4 MiB of a blob',
    compressed.length * WARM_ROUNDS,
    () => read(proxy.url, wire, repeat(compressed, WARM_ROUNDS), READERS),
    4 * MIB,
  );
  await measure('connection and a request', CONNECTIONS, async () => {
    for (let count = 0; count < CONNECTIONS; count++) await read(proxy.url, wire, [{ path: '/v2/' }], 1);
  });
  const before = await proxy.memoryBytes();
  using connections = new DisposableStack();
  const buffer = ReceivingConnection.receiveBuffer();
  for (let count = 0; count < IDLE_CONNECTIONS; count++)
    connections.use(await openConnection(proxy.url, wire, buffer));
  const heldBytes = (await proxy.memoryBytes()) - before;
  const kibibytes = Number((heldBytes / 1024 / IDLE_CONNECTIONS).toFixed(1));
  rows.push({ wire, what: 'idle connection', count: IDLE_CONNECTIONS, 'KiB of memory': kibibytes });
  return rows;
}

/** CPU time of the proxy and commands to Redis since it began. */
class Cost {
  readonly #proxy: ProxyProcess;
  readonly #redis: RedisServer | undefined;
  readonly #before: Totals;
  readonly #startedMs = performance.now();

  private constructor(proxy: ProxyProcess, before: Totals, redis?: RedisServer) {
    this.#proxy = proxy;
    this.#before = before;
    this.#redis = redis;
  }

  static async begin(proxy: ProxyProcess, redis?: RedisServer): Promise<Cost> {
    return new Cost(proxy, await totalsOf(proxy, redis), redis);
  }

  /** @param bytes of each request, to express the cost by size */
  async describe(wire: Wire, what: string, count: number, bytes?: number): Promise<ReportRow> {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const after = await totalsOf(this.#proxy, this.#redis);
    const cpuMs = ((after.cpuSeconds - this.#before.cpuSeconds) * 1000) / count;
    const servingMs = ((after.servingSeconds - this.#before.servingSeconds) * 1000) / count;
    return {
      wire,
      what,
      count,
      'CPU ms': Number(cpuMs.toFixed(3)),
      'serving thread ms': Number(servingMs.toFixed(3)),
      ...(bytes === undefined
        ? {}
        : {
            'CPU s/GB': Number((cpuMs / (bytes / 1e6)).toFixed(2)),
            'serving thread s/GB': Number((servingMs / (bytes / 1e6)).toFixed(2)),
          }),
      'requests/s': Math.round(count / seconds),
      ...(this.#redis === undefined
        ? {}
        : { 'Redis commands': Number(((after.commands - this.#before.commands) / count).toFixed(2)) }),
    };
  }
}

interface Totals {
  readonly cpuSeconds: number;
  readonly servingSeconds: number;
  /** To Redis. */
  readonly commands: number;
}

async function totalsOf(proxy: ProxyProcess, redis: RedisServer | undefined): Promise<Totals> {
  return {
    cpuSeconds: await proxy.cpuSeconds(),
    servingSeconds: await proxy.servingSeconds(),
    commands: redis === undefined ? 0 : await commandsOf(redis),
  };
}

/** Commands that clients have sent, without those of the measurement itself. */
async function commandsOf(redis: RedisServer): Promise<number> {
  const info = await runProgram('redis-cli', ['-p', String(redis.port), 'info', 'commandstats']);
  const counts = info.toString().matchAll(/^cmdstat_(\w+).*?:calls=(\d+)/gm);
  return [...counts].reduce((sum, [, name, calls]) => sum + (name === 'info' ? 0 : Number(calls)), 0);
}

interface Request {
  readonly path: string;
  readonly range?: string;
  readonly accept?: string;
}

/** Sends all requests over a few connections, each of which sends one at a time. */
async function read(url: string, wire: Wire, requests: readonly Request[], readers: number): Promise<void> {
  const buffer = ReceivingConnection.receiveBuffer();
  const left = [...requests];
  const readOn = async (): Promise<void> => {
    using connection = await openConnection(url, wire, buffer);
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      const { path, ...options } = next;
      const { status } = await connection.get(path, options);
      if (status !== (next.range === undefined ? 200 : 206)) throw new Error(`${path}: status ${status}`);
    }
  };
  await Promise.all(Array.from({ length: readers }, readOn));
}

function rangesOf(path: string, size: number, rangeBytes: number): Request[] {
  return Array.from({ length: Math.floor(size / rangeBytes) }, (_, place) => ({
    path,
    range: `${place * rangeBytes}-${(place + 1) * rangeBytes - 1}`,
  }));
}

/** The large layer that the tag names as a tar; `undefined` while it has no index. */
async function tarLayer(url: string): Promise<{ digest: string; size: number } | undefined> {
  const headers = { accept: MANIFEST_TYPES, 'user-agent': 'containerd/2.2.6' };
  const fetchJson = async (reference: string): Promise<unknown> =>
    await (await fetch(`${url}${REPOSITORY}/manifests/${reference}`, { headers })).json();
  const document = (await fetchJson('latest')) as { manifests?: { digest: string }[]; layers?: unknown };
  const [first] = document.manifests ?? [];
  const manifest = first === undefined ? document : await fetchJson(first.digest);
  const { layers = [] } = manifest as { layers?: { mediaType: string; digest: string; size: number }[] };
  return layers.find(({ mediaType }) => mediaType.endsWith('.tar'));
}

async function until(isDone: () => Promise<boolean>): Promise<void> {
  while (!(await isDone())) await sleep(100);
}

function repeat<T>(values: readonly T[], times: number): T[] {
  return Array.from({ length: times }, () => values).flat();
}
