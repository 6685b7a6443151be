import { parseArgs } from 'node:util';

import { SnapshotterClient } from '../../test/helpers/clients/snapshotter-client.ts';
import { openNodeTransport } from './node-transport.ts';
import { parseWire } from './wire.ts';

/** The measurements of one lazy start. */
export interface LazyStart {
  /** Milliseconds from the request for the tag to the last byte of the first file. */
  readonly firstFileMs: number;
  /** Body bytes that the node has received. */
  readonly bytes: number;
}

/** Starts one image on many nodes concurrently, reads a file on each, and prints the results as JSON. */
const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    file: { type: 'string' },
    clients: { type: 'string' },
    wire: { type: 'string' },
  },
});
const { url = '', file = '', clients = '1', wire = 'http' } = values;

async function start(): Promise<LazyStart> {
  const began = performance.now();
  using transport = openNodeTransport(new URL(url).origin, parseWire(wire));
  const client = new SnapshotterClient({ repositoryUrl: url, ...transport });
  await client.start('latest');
  await client.readFile(file);
  return { firstFileMs: performance.now() - began, bytes: client.bytes };
}

const starts = await Promise.all(Array.from({ length: Number(clients) }, start));
process.stdout.write(`${JSON.stringify(starts)}\n`);
