import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createGunzip, createInflateRaw } from 'node:zlib';

import { Gunzip } from 'fflate';

import { type Engine, WINDOW_BYTES } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';

/** The measurements of one process. */
export interface InflateResult {
  readonly sha256: string;
  /** Of each timed pass. */
  readonly cpuSeconds: readonly number[];
  readonly wallSeconds: readonly number[];
}

type Consume = (output: Uint8Array) => unknown;
type Decode = (compressed: Uint8Array, consume: Consume) => Promise<void> | void;

const CHUNK_BYTES = 256 * 1024;
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** Of a gzip file without name. */
const HEADER_BYTES = 10;

const DECODERS: Readonly<Record<string, Decode>> = {
  wasm: (compressed, consume) => decodeWith(wasmEngine, compressed, consume),
  pako: (compressed, consume) => decodeWith(pakoEngine, compressed, consume),
  'zlib raw': (compressed, consume) =>
    pass(createInflateRaw({ chunkSize: CHUNK_BYTES }), compressed.subarray(HEADER_BYTES), consume),
  fflate: (compressed, consume) => {
    const gunzip = new Gunzip(consume);
    for (let at = 0; at < compressed.length; at += CHUNK_BYTES)
      gunzip.push(compressed.subarray(at, at + CHUNK_BYTES), at + CHUNK_BYTES >= compressed.length);
  },
  'zlib gunzip': (compressed, consume) => pass(createGunzip({ chunkSize: CHUNK_BYTES }), compressed, consume),
};

/** With CRC-32 and checkpoints, as for an index. */
function decodeWith(engine: Engine, compressed: Uint8Array, consume: Consume): void {
  const window = new Uint8Array(WINDOW_BYTES);
  let checkpoint = 0;
  const inflater = engine.createGzipInflater({
    onOutput: consume,
    onBoundary({ uncompressedOffset }, copyWindow) {
      if (uncompressedOffset - checkpoint <= CHECKPOINT_BYTES) return;
      checkpoint = uncompressedOffset;
      copyWindow(window);
    },
  });
  for (let at = 0; at < compressed.length; at += CHUNK_BYTES) {
    inflater.write(compressed.subarray(at, at + CHUNK_BYTES));
  }
  inflater.finish();
}

async function pass(
  stream: ReturnType<typeof createGunzip>,
  compressed: Uint8Array,
  consume: Consume,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  stream.on('data', consume).on('end', resolve).on('error', reject);
  for (let at = 0; at < compressed.length; at += CHUNK_BYTES) {
    if (stream.write(compressed.subarray(at, at + CHUNK_BYTES))) continue;
    await new Promise<void>((drained) => stream.once('drain', drained));
  }
  stream.end();
  await promise;
}

const { values } = parseArgs({
  options: { engine: { type: 'string' }, file: { type: 'string' }, passes: { type: 'string', default: '3' } },
});
const decode = DECODERS[values.engine ?? ''];
if (decode === undefined || values.file === undefined) throw new Error('--engine and --file are needed');
const compressed = readFileSync(values.file);

// The pass that verifies also warms up.
const hash = createHash('sha256');
await decode(compressed, (output) => hash.update(output));
const cpuSeconds: number[] = [];
const wallSeconds: number[] = [];
for (let count = Number(values.passes); count > 0; count--) {
  const started = performance.now();
  const before = process.cpuUsage();
  await decode(compressed, () => undefined);
  const { user, system } = process.cpuUsage(before);
  cpuSeconds.push((user + system) / 1e6);
  wallSeconds.push((performance.now() - started) / 1000);
}
const result: InflateResult = { sha256: hash.digest('hex'), cpuSeconds, wallSeconds };
process.stdout.write(`${JSON.stringify(result)}\n`);
