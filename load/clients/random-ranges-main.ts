// A process of clients that read random ranges of one blob for some seconds, as random-ranges.lua does with
// wrk, which lacks HTTP/2. Prints the same JSON.
import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { openConnection } from './client-connection.ts';
import { percentile } from '../reports/percentile.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import type { Wire } from './wire.ts';

export interface RandomRangesOptions {
  readonly url: string;
  readonly wire: Wire;
  readonly path: string;
  readonly blobBytes: number;
  readonly rangeBytes: number;
  readonly connections: number;
  readonly seconds: number;
  readonly seed: number;
}

/** Times are microseconds. */
export interface RandomRangesResult {
  readonly requests: number;
  readonly microseconds: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
}

const options = JSON.parse(process.argv[2] ?? '') as RandomRangesOptions;
const buffer = ReceivingConnection.receiveBuffer();
const microseconds: number[] = [];
let failed = 0;

async function readOn(_: unknown, place: number): Promise<void> {
  const { url, wire, path, blobBytes, rangeBytes, seconds, seed } = options;
  const random = seededRandom(seed + place);
  using connection = await openConnection(url, wire, buffer);
  while (performance.now() - started < seconds * 1000) {
    const start = Math.floor(random() * (blobBytes - rangeBytes));
    const { status, bytes, totalMs } = await connection.get(path, {
      range: `${start}-${start + rangeBytes - 1}`,
    });
    if (status !== 206 || bytes !== rangeBytes) failed++;
    microseconds.push(totalMs * 1000);
  }
}

const started = performance.now();
await Promise.all(Array.from({ length: options.connections }, readOn));
const result: RandomRangesResult = {
  requests: microseconds.length,
  microseconds: (performance.now() - started) * 1000,
  failed,
  p50: percentile(microseconds, 0.5),
  p99: percentile(microseconds, 0.99),
};
process.stdout.write(`${JSON.stringify(result)}\n`);
