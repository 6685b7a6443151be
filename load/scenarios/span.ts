import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { DemoUpstream } from '../demo-upstream.ts';
import { percentile } from '../percentile.ts';
import { ProxyProcess } from '../proxy-process.ts';
import { type SampleBlob, writeSampleImage } from '../sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';

const REPOSITORY = 'app';
const LAYER_MIB = 130;
const KIB = 1024;
/** Bytes of a read, and how many reads. */
const READS = [
  [4 * KIB, 250],
  [64 * KIB, 200],
  [4 * KIB * KIB, 20],
] as const;
const WARM_ROUNDS = 8;
const SEED = 23;

/** Ranges of a decompressed layer. */
export const span: Scenario = {
  name: 'span',
  question:
    'A part of a decompressed layer is read, its index present: how long does it take, and what does it cost?',
  async run({ log }) {
    const folder = await mkdtemp(join(tmpdir(), 'spandrel-load-'));
    try {
      log('making an image');
      const image = await writeSampleImage(folder, { repository: REPOSITORY, layerMib: LAYER_MIB });
      const [blob] = image.layers;
      if (blob === undefined) throw new Error('the image has no layers');
      const tar = execFileSync('gzip', ['-dc', blob.path], { maxBuffer: 2 * LAYER_MIB * KIB * KIB });
      await using upstream = await DemoUpstream.startWith([image], {});
      const rows: ReportRow[] = [];
      for (const [bytes, count] of READS) {
        log(`reads of ${bytes / KIB} KiB`);
        rows.push(
          ...(await measure({ folder: join(folder, String(bytes)), upstream, blob, tar, bytes, count })),
        );
      }
      return { rows };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

interface Measurement {
  readonly folder: string;
  readonly upstream: DemoUpstream;
  readonly blob: SampleBlob;
  readonly tar: Buffer;
  /** Of each read. */
  readonly bytes: number;
  readonly count: number;
}

async function measure(given: Measurement): Promise<ReportRow[]> {
  const { folder, upstream, blob, tar, bytes, count } = given;
  await using proxy = await ProxyProcess.start({
    upstreamUrl: upstream.url,
    root: folder,
    environment: { SPANDREL_FILL_BACKGROUND: 'false', SPANDREL_CACHE_MEMORY_BYTES: '1GiB' },
  });
  const layer = `${proxy.url}/v2/${proxy.repositoryOf(REPOSITORY)}/_soci/layers/${blob.digest}`;
  await (await fetch(`${layer}/spans`)).arrayBuffer();
  const random = seededRandom(SEED);
  const starts = Array.from({ length: count }, () => Math.floor(random() * (tar.length - bytes)));
  const rows: ReportRow[] = [];
  // The threads, and the code of a read, are warm before anything counts.
  for (const start of starts.slice(0, count / 10)) await read(layer, tar, start, bytes);
  for (const state of ['cold', 'warm'] as const) {
    if (state === 'cold') await proxy.forgetBlobs();
    await upstream.forget();
    const reads = state === 'cold' ? starts.slice(count / 10) : repeat(starts, WARM_ROUNDS);
    const [inflated, cpu] = [await proxy.metric(INFLATED), await proxy.cpuSeconds()];
    const times: number[] = [];
    for (const start of reads) times.push(await read(layer, tar, start, bytes));
    const cpuMs = ((await proxy.cpuSeconds()) - cpu) * 1000;
    const { bytesSent, requestCount } = await upstream.totals();
    const served = reads.length * bytes;
    rows.push({
      'read KiB': bytes / KIB,
      state,
      'p50 ms': rounded(percentile(times, 0.5)),
      'p99 ms': rounded(percentile(times, 0.99)),
      'CPU ms': rounded(cpuMs / reads.length),
      'inflated ÷ served': rounded(((await proxy.metric(INFLATED)) - inflated) / served),
      'upstream ÷ served': rounded(bytesSent / served),
      'upstream requests': rounded(requestCount / reads.length),
    });
  }
  return rows;
}

const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';

/** Milliseconds that a read takes, whose bytes are right. */
async function read(layer: string, tar: Buffer, start: number, bytes: number): Promise<number> {
  const began = performance.now();
  const response = await fetch(`${layer}/tar`, { headers: { range: `bytes=${start}-${start + bytes - 1}` } });
  const body = Buffer.from(await response.arrayBuffer());
  const tookMs = performance.now() - began;
  if (!body.equals(tar.subarray(start, start + bytes))) throw new Error(`wrong bytes from ${start} on`);
  return tookMs;
}

function repeat<T>(values: readonly T[], times: number): T[] {
  return Array.from({ length: times }, () => values).flat();
}

function rounded(value: number): number {
  return Number(value.toFixed(3));
}
