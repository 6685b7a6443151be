import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { DemoUpstream } from '../demo-upstream.ts';
import { percentile } from '../percentile.ts';
import { ProxyProcess } from '../proxy-process.ts';
import { largeLayer, type SampleImage, writeSampleImage } from '../sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../scratch-folder.ts';

const LAYER_MIB = 130;
const KIB = 1024;
const READS = [
  { bytes: 4 * KIB, count: 250, readers: 1 },
  // A processor that never rests: what a read costs by itself.
  { bytes: 4 * KIB, count: 250, readers: 16 },
  { bytes: 64 * KIB, count: 200, readers: 1 },
  { bytes: 4 * KIB * KIB, count: 20, readers: 1 },
] as const;
/** Reads of the other layer before any count: code that has run some hundred times is fast code. */
const WARM_UP_READS = 500;
const WARM_ROUNDS = 8;
const SEED = 23;

/** Where a read finds what it needs, its index apart: at the upstream, in the store, or decompressed in memory. */
type State = 'upstream' | 'disk' | 'memory';

/** Ranges of a decompressed layer. */
export const span: Scenario = {
  name: 'span',
  question:
    'A part of a decompressed layer is read, its index present: how long does it take, and what does it cost?',
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const [image, other] = [
      await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB }),
      await writeSampleImage(folder.path, { repository: 'other', layerMib: LAYER_MIB }),
    ];
    await using upstream = await DemoUpstream.startWith([image, other], {});
    const rows: ReportRow[] = [];
    for (const reads of READS) {
      for (const state of ['upstream', 'disk', 'memory'] as const) {
        log(`reads of ${reads.bytes / KIB} KiB by ${reads.readers}, ${state}`);
        rows.push(await measure({ root: folder.next(), upstream, image, other, state, ...reads }));
      }
    }
    return { rows };
  },
};

interface Measurement {
  /** Of the proxy's store; empty. */
  readonly root: string;
  readonly upstream: DemoUpstream;
  readonly image: SampleImage;
  /** What the proxy runs itself warm with. */
  readonly other: SampleImage;
  readonly state: State;
  /** Of each read. */
  readonly bytes: number;
  readonly count: number;
  /** At the same time. */
  readonly readers: number;
}

/** The large layer of an image in a proxy, and what it must decompress to. */
interface ReadLayer {
  readonly url: string;
  readonly tar: Buffer;
}

async function measure(given: Measurement): Promise<ReportRow> {
  const { root, upstream, state, bytes, count, readers } = given;
  const start = (): Promise<ProxyProcess> =>
    ProxyProcess.start({
      upstreamUrl: upstream.url,
      root,
      environment: { SPANDREL_FILL_BACKGROUND: 'false', SPANDREL_CACHE_MEMORY_BYTES: '1GiB' },
    });
  {
    await using first = await start();
    for (const image of [given.image, given.other])
      await (await fetch(`${layerOf(first, image).url}/spans`)).arrayBuffer();
    if (state === 'upstream') await first.forgetBlobs();
  }
  // Nothing is in its memory.
  await using proxy = await start();
  const [layer, other] = [layerOf(proxy, given.image), layerOf(proxy, given.other)];
  const random = seededRandom(SEED);
  const starts = Array.from({ length: count }, () => Math.floor(random() * (layer.tar.length - bytes)));
  await readAll(other, repeat(starts, Math.ceil(WARM_UP_READS / count)), bytes, readers);
  if (state === 'memory') await readAll(layer, starts, bytes, readers);
  await upstream.forget();
  const reads = state === 'memory' ? repeat(starts, WARM_ROUNDS) : starts;
  const [inflated, cpu] = [await proxy.metric(INFLATED), await proxy.cpuSeconds()];
  const times = await readAll(layer, reads, bytes, readers);
  const cpuMs = ((await proxy.cpuSeconds()) - cpu) * 1000;
  const { bytesSent, requestCount } = await upstream.totals();
  const served = reads.length * bytes;
  return {
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

function layerOf(proxy: ProxyProcess, image: SampleImage): ReadLayer {
  const { digest, path } = largeLayer(image);
  return { url: proxy.layerUrl(image.repository, digest), tar: gunzipSync(readFileSync(path)) };
}

/** Milliseconds that each read takes, whose bytes must be right. */
async function readAll(
  { url, tar }: ReadLayer,
  starts: readonly number[],
  bytes: number,
  readers: number,
): Promise<number[]> {
  const times: number[] = [];
  const left = [...starts];
  const readOn = async (): Promise<void> => {
    for (let start = left.pop(); start !== undefined; start = left.pop()) {
      const began = performance.now();
      const range = `bytes=${start}-${start + bytes - 1}`;
      const response = await fetch(`${url}/tar`, { headers: { range } });
      const body = Buffer.from(await response.arrayBuffer());
      times.push(performance.now() - began);
      if (!body.equals(tar.subarray(start, start + bytes))) throw new Error(`wrong bytes from ${start} on`);
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
