// A process of clients that fetch one blob repeatedly for some seconds. Prints the results as JSON.
import { BlobChecker } from './blob-checker.ts';
import { openConnection } from './client-connection.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import type { SampleBlob } from '../samples/sample-image.ts';
import type { Wire } from './wire.ts';

export interface WholeBlobsOptions {
  readonly url: string;
  readonly wire: Wire;
  readonly repository: string;
  readonly blob: SampleBlob;
  readonly connections: number;
  readonly seconds: number;
  /** Also compare every byte. */
  readonly isChecked: boolean;
}

export interface WholeBlobsResult {
  readonly bytes: number;
  readonly seconds: number;
  readonly blobMs: readonly number[];
}

const options = JSON.parse(process.argv[2] ?? '') as WholeBlobsOptions;
const { url, wire, repository, blob, isChecked } = options;
const checker = new BlobChecker(repository);
const buffer = ReceivingConnection.receiveBuffer();
const blobMs: number[] = [];
let bytes = 0;

async function fetchAgainAndAgain(): Promise<void> {
  using connection = await openConnection(url, wire, buffer);
  do {
    const reception = isChecked
      ? await checker.fetch(connection, blob)
      : await connection.get(`/v2/${repository}/blobs/${blob.digest}`);
    if (reception.status !== 200 || reception.bytes !== blob.size)
      throw new Error(`status ${reception.status}, ${reception.bytes} bytes of ${blob.size}`);
    bytes += reception.bytes;
    blobMs.push(reception.totalMs);
  } while (performance.now() - started < options.seconds * 1000);
}

const started = performance.now();
await Promise.all(Array.from({ length: options.connections }, fetchAgainAndAgain));
const result: WholeBlobsResult = {
  bytes,
  seconds: (performance.now() - started) / 1000,
  blobMs,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
