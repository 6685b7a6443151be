import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { percentile } from '../reports/percentile.ts';

export interface BesideOptions {
  /** Of the layer that is read, in the proxy. */
  readonly layerUrl: string;
  /** Its blob. */
  readonly path: string;
  /** Layers without an index. */
  readonly buildUrls: readonly string[];
  readonly readers: number;
  readonly rangeBytes: number;
  readonly seed: number;
}

export interface BesideResult {
  readonly reads: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly buildSeconds: number;
}

/**
 * Reads ranges of one decompressed layer with many readers while other layers are indexed; checks all bytes.
 */
async function readWhileBuilding(options: BesideOptions): Promise<BesideResult> {
  const { layerUrl, path, buildUrls, readers, rangeBytes, seed } = options;
  const tar = gunzipSync(readFileSync(path));
  const random = seededRandom(seed);
  const times: number[] = [];
  let built = false;

  const read = async (): Promise<void> => {
    const start = Math.floor(random() * (tar.length - rangeBytes));
    const range = `bytes=${start}-${start + rangeBytes - 1}`;
    const began = performance.now();
    const response = await fetch(`${layerUrl}/tar`, { headers: { range } });
    const bytes = Buffer.from(await response.arrayBuffer());
    times.push(performance.now() - began);
    if (response.status !== 206 || !bytes.equals(tar.subarray(start, start + rangeBytes)))
      throw new Error(`wrong bytes at ${start}, status ${response.status}`);
  };
  const readOn = async (): Promise<void> => {
    while (!built) await read();
  };
  const build = async (url: string): Promise<void> => {
    const response = await fetch(`${url}/spans`);
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${url}: ${response.status}`);
  };
  const reading = Array.from({ length: readers }, readOn);
  const began = performance.now();
  await Promise.all(buildUrls.map(build));
  const buildSeconds = (performance.now() - began) / 1000;
  built = true;
  await Promise.all(reading);
  return {
    reads: times.length,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    buildSeconds,
  };
}

const options = JSON.parse(process.argv[2] ?? '{}') as BesideOptions;
process.stdout.write(`${JSON.stringify(await readWhileBuilding(options))}\n`);
