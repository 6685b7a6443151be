// A process of clients that each request many ranges of one blob concurrently, as a node in SOCI's parallel
// mode does. Prints as JSON after how many milliseconds each client was done.
import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { BlobChecker } from './blob-checker.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import type { SampleBlob } from '../samples/sample-image.ts';

export interface ParallelOptions {
  readonly url: string;
  readonly repository: string;
  readonly blob: SampleBlob;
  readonly clients: number;
  readonly connectionsPerClient: number;
  readonly rangeBytes: number;
  readonly seed: number;
}

const { url, repository, blob, clients, connectionsPerClient, rangeBytes, seed } = JSON.parse(
  process.argv[2] ?? '',
) as ParallelOptions;
const checker = new BlobChecker(repository);
const buffer = ReceivingConnection.receiveBuffer();
const random = seededRandom(seed);

/**
 * All ranges of the blob in order, from a starting point of each client's own, so that no two nodes run in
 * step.
 */
function rangesOfClient(): { start: number; end: number }[] {
  const count = Math.ceil(blob.size / rangeBytes);
  const first = Math.floor(random() * count);
  return Array.from({ length: count }, (_, place) => {
    const start = ((first + place) % count) * rangeBytes;
    return { start, end: Math.min(start + rangeBytes, blob.size) };
  });
}

async function fetchAll(): Promise<number> {
  const startedMs = performance.now();
  const queue = rangesOfClient();
  const worker = async (): Promise<void> => {
    using connection = await ReceivingConnection.open(url, buffer);
    for (let range = queue.shift(); range !== undefined; range = queue.shift())
      await checker.fetch(connection, blob, range);
  };
  await Promise.all(Array.from({ length: connectionsPerClient }, worker));
  return performance.now() - startedMs;
}

const totals = await Promise.all(Array.from({ length: clients }, fetchAll));
process.stdout.write(`${JSON.stringify(totals)}\n`);
