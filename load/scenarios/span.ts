import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { CheckedBytes } from '../clients/blob-checker.ts';
import { openConnection } from '../clients/client-connection.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { createTrustedCertificate } from '../processes/listener-certificate.ts';
import { serveFilesWithNginx } from '../peers/nginx.ts';
import { percentile } from '../reports/percentile.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { ReceivingConnection } from '../clients/receiving-connection.ts';
import { BLOB_FOLDER, largeLayer, type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { type Wire, WIRES } from '../clients/wire.ts';

const LAYER_MIB = 130;
const KIB = 1024;
const READS = [
  { bytes: 4 * KIB, count: 250, readers: 1 },
  // Keeps the processor busy, to measure what a read itself costs.
  { bytes: 4 * KIB, count: 250, readers: 16 },
  { bytes: 64 * KIB, count: 200, readers: 1 },
  { bytes: 4 * KIB * KIB, count: 20, readers: 1 },
] as const;
/** Reads of another layer before the measurement: code becomes fast after some hundred runs. */
const WARM_UP_READS = 500;
const WARM_ROUNDS = 8;
const SEED = 23;

/**
 * Where a read finds its bytes, its index aside: at the upstream, in the store, or decompressed in memory.
 */
type State = 'upstream' | 'disk' | 'memory';

/** Ranges of a decompressed layer. */
export const span: Scenario = {
  name: 'span',
  question: 'How long does a read of a part of an indexed layer take, and what does it cost?',
  async run({ log, wires = WIRES }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const [image, other] = [
      await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB }),
      await writeSampleImage(folder.path, { repository: 'other', layerMib: LAYER_MIB }),
    ];
    await using upstream = await DemoUpstream.startWith([image, other], {});
    const rows: ReportRow[] = [];
    await using certificate = await createTrustedCertificate();
    for (const wire of wires) {
      const tls = wire === 'http' ? undefined : certificate;
      for (const reads of READS) {
        for (const state of ['upstream', 'disk', 'memory'] as const) {
          log(`${wire}: reads of ${reads.bytes / KIB} KiB by ${reads.readers}, ${state}`);
          rows.push(
            await measure({ root: folder.next(), wire, tls, upstream, image, other, state, ...reads }),
          );
        }
        log(`${wire}: reads of ${reads.bytes / KIB} KiB by ${reads.readers}, nginx`);
        rows.push(await measureFile({ root: folder.next(), wire, tls, folder, image, ...reads }));
      }
    }
    return { rows };
  },
};

interface Measurement {
  /** Of the proxy's store; empty. */
  readonly root: string;
  readonly wire: Wire;
  /** For the proxy's clients. */
  readonly tls: CertificateFiles | undefined;
  readonly upstream: DemoUpstream;
  readonly image: SampleImage;
  /** Warms up the proxy. */
  readonly other: SampleImage;
  readonly state: State;
  /** Of each read. */
  readonly bytes: number;
  readonly count: number;
  /** Concurrent readers. */
  readonly readers: number;
}

/** The large layer of an image in a proxy, and its decompressed content. */
interface ReadLayer {
  /** Of the server. */
  readonly url: string;
  readonly path: string;
  readonly tar: Buffer;
}

async function measure(given: Measurement): Promise<ReportRow> {
  const { root, wire, tls, upstream, state, bytes, count, readers } = given;
  const start = (): Promise<ProxyProcess> =>
    ProxyProcess.start({
      upstreamUrl: upstream.url,
      root,
      tls,
      environment: { SPANDREL_FILL_BACKGROUND: 'false', SPANDREL_CACHE_MEMORY_BYTES: '1GiB' },
    });
  {
    await using first = await start();
    for (const image of [given.image, given.other])
      await (
        await fetch(first.layerUrl(image.repository, largeLayer(image).digest) + '/spans')
      ).arrayBuffer();
    if (state === 'upstream') await first.forgetBlobs();
  }
  // The memory cache is empty.
  await using proxy = await start();
  const [layer, other] = [layerOf(proxy, given.image), layerOf(proxy, given.other)];
  const starts = startsOf(layer, given);
  const all = { wire, bytes, readers };
  await readAll(other, repeat(starts, Math.ceil(WARM_UP_READS / count)), all);
  if (state === 'memory') await readAll(layer, starts, all);
  await upstream.forget();
  const reads = state === 'memory' ? repeat(starts, WARM_ROUNDS) : starts;
  const [inflated, cpu] = [await proxy.metric(INFLATED), await proxy.cpuSeconds()];
  const times = await readAll(layer, reads, all);
  const cpuMs = ((await proxy.cpuSeconds()) - cpu) * 1000;
  const { bytesSent, requestCount } = await upstream.totals();
  const served = reads.length * bytes;
  return {
    wire,
    'read KiB': bytes / KIB,
    readers,
    from: state,
    'p50 ms': rounded(percentile(times, 0.5)),
    'p99 ms': rounded(percentile(times, 0.99)),
    'CPU ms': rounded(cpuMs / reads.length),
    'inflated ÷ served': rounded(((await proxy.metric(INFLATED)) - inflated) / served),
    'upstream ÷ served': rounded(bytesSent / served),
    'upstream requests': rounded(requestCount / reads.length),
  };
}

const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';

/** The same reads of the decompressed layer as a file from nginx: the cost of sending the bytes alone. */
async function measureFile(
  given: Pick<Measurement, 'root' | 'wire' | 'tls' | 'image' | 'bytes' | 'count' | 'readers'> & {
    readonly folder: ScratchFolder;
  },
): Promise<ReportRow> {
  const { root, wire, tls, image, bytes, count, readers, folder } = given;
  const tar = gunzipSync(readFileSync(largeLayer(image).path));
  const hex = createHash('sha256').update(tar).digest('hex');
  await writeFile(join(folder.path, BLOB_FOLDER, hex), tar);
  await using nginx = await serveFilesWithNginx(root, folder.path, tls);
  const layer = { url: nginx.url, path: `/v2/app/blobs/sha256:${hex}`, tar };
  const starts = startsOf(layer, given);
  const all = { wire, bytes, readers };
  await readAll(layer, repeat(starts, Math.ceil(WARM_UP_READS / count)), all);
  const reads = repeat(starts, WARM_ROUNDS);
  const cpu = await nginx.cpuSeconds();
  const times = await readAll(layer, reads, all);
  const cpuMs = ((await nginx.cpuSeconds()) - cpu) * 1000;
  return {
    wire,
    'read KiB': bytes / KIB,
    readers,
    from: 'nginx, decompressed file',
    'p50 ms': rounded(percentile(times, 0.5)),
    'p99 ms': rounded(percentile(times, 0.99)),
    'CPU ms': rounded(cpuMs / reads.length),
  };
}

function layerOf(proxy: ProxyProcess, image: SampleImage): ReadLayer {
  const { digest, path } = largeLayer(image);
  const tarUrl = new URL(`${proxy.layerUrl(image.repository, digest)}/tar`);
  return { url: tarUrl.origin, path: tarUrl.pathname, tar: gunzipSync(readFileSync(path)) };
}

function startsOf({ tar }: ReadLayer, { bytes, count }: Pick<Measurement, 'bytes' | 'count'>): number[] {
  const random = seededRandom(SEED);
  return Array.from({ length: count }, () => Math.floor(random() * (tar.length - bytes)));
}

/** Milliseconds of each read; all bytes are verified. */
async function readAll(
  { url, path, tar }: ReadLayer,
  starts: readonly number[],
  { wire, bytes, readers }: Pick<Measurement, 'wire' | 'bytes' | 'readers'>,
): Promise<number[]> {
  const times: number[] = [];
  const left = [...starts];
  const buffer = ReceivingConnection.receiveBuffer();
  const readOn = async (): Promise<void> => {
    using connection = await openConnection(url, wire, buffer);
    for (let start = left.pop(); start !== undefined; start = left.pop()) {
      const checked = new CheckedBytes(tar, start, start + bytes);
      const range = `${start}-${start + bytes - 1}`;
      const { status, totalMs } = await connection.get(path, {
        range,
        onPiece: (piece) => checked.see(piece),
      });
      if (status !== 206) throw new Error(`status ${status}`);
      checked.end(path);
      times.push(totalMs);
    }
  };
  await Promise.all(Array.from({ length: readers }, readOn));
  return times;
}

function repeat<T>(values: readonly T[], times: number): T[] {
  return Array.from({ length: times }, () => values).flat();
}

function rounded(value: number): number {
  return Number(value.toFixed(3));
}
