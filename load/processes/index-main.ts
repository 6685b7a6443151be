import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';

import { DigestPool } from '../../src/blobs/verification/digest-pool.ts';
import { Growth } from '../../src/blobs/files/growth.ts';
import { finishDigest } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { WorkerPool } from '../../src/threads/worker-pool.ts';
import { startLayerBuild } from '../../src/build/building-index.ts';
import type { LayerSummary } from '../../src/index/layer-summary.ts';
import type * as layerTasks from '../../src/build/layer-worker.ts';

/** The measurements of one process. */
export interface IndexResult {
  readonly summary: LayerSummary;
  /**
   * Of the whole process with all its threads, from before the first thread starts until the index is on
   * disk.
   */
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakBytes: number;
  readonly eventLoopP99Ms: number;
}

// The defaults of the configuration.
const SPAN_BYTES = 4 * 2 ** 20;
const READ_SPAN_BYTES = 256 * 2 ** 10;
const LIMITS = { maxUncompressedBytes: 2 ** 36, maxTocEntries: 2_000_000 };

const { values } = parseArgs({
  options: { file: { type: 'string' }, folder: { type: 'string' } },
});
const { file: path = '', folder = '' } = values;
// Known from the manifest in the proxy. Reading the file also puts it into the page cache, as after its
// arrival.
const hash = createHash('sha256');
await pipeline(createReadStream(path), hash);
const layerDigest = finishDigest(hash);
const { size: layerBytes } = await stat(path);

const delay = monitorEventLoopDelay({ resolution: 10 });
delay.enable();
const started = performance.now();
const before = process.cpuUsage();
const growth = Growth.complete(layerBytes);
// The threads run the built product.
const entry = new URL('../../dist/build/layer-worker.js', import.meta.url);
await using digests = new DigestPool({
  entry: new URL('../../dist/blobs/verification/digest-worker.js', import.meta.url),
});
await using pool = new WorkerPool<typeof layerTasks>({
  name: 'index',
  entry,
  threads: 1,
  maxQueue: 0,
});
// As for a blob from an upstream: one thread computes its digest while another one builds.
const hashing = digests.hash(path, growth, 'sha256');
const { index } = await startLayerBuild({
  pool,
  growth,
  path,
  layerDigest,
  layerBytes: provenBytes(layerBytes),
  compression: 'gzip',
  engine: 'wasm',
  spanBytes: SPAN_BYTES,
  readSpanBytes: READ_SPAN_BYTES,
  limits: LIMITS,
  indexPath: join(folder, 'index'),
}).completed;
if ((await hashing) !== layerDigest) throw new Error('the file has another digest');
const { user, system } = process.cpuUsage(before);
const result: IndexResult = {
  summary: index.summary,
  cpuSeconds: (user + system) / 1e6,
  wallSeconds: (performance.now() - started) / 1000,
  peakBytes: process.resourceUsage().maxRSS * 1024,
  eventLoopP99Ms: delay.percentile(99) / 1e6,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
