import { stat } from 'node:fs/promises';
import { join } from 'node:path';

import { type Program, runProgram } from '../../test/helpers/programs.ts';
import type { IndexResult } from '../processes/index-main.ts';
import { timeCommand } from '../processes/timed-command.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { percentile } from '../reports/percentile.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { largeLayer, type SampleImage, writeImageOf } from '../samples/sample-image.ts';
import { makeLargeTar, type SampleTar } from '../samples/sample-tars.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';

const MAIN = new URL('../processes/index-main.ts', import.meta.url).pathname;
const ROUNDS = 3;
const TAR_BYTES = 1e9;

/** Commands of the promise; each gets the layer's file. */
const PEERS: Readonly<Record<string, readonly [Program, ...string[]]>> = {
  'gzip -dc': ['gzip', '-dc'],
  'pigz -dc': ['pigz', '-dc'],
  sha256sum: ['sha256sum'],
};
const OURS = 'index build';
/** The promise: at most 1 for both. */
const CPU_RATIO = 'CPU ÷ (pigz + 2 sha256sum)';
const WALL_RATIO = 'wall ÷ gzip';

interface Times {
  readonly cpuSeconds: number[];
  readonly wallSeconds: number[];
}

/** What does indexing a large layer cost? */
export const indexBuild: Scenario = {
  name: 'index',
  question: 'What does indexing a layer of 1 GB cost, against inflating and hashing it?',
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making a tar');
    const rows = await measure(await makeLargeTar(folder.path, TAR_BYTES), folder.path, log);
    const isKept = [CPU_RATIO, WALL_RATIO].every((column) => !(Number(rows[0]?.[column]) > 1));
    return { rows, ...(isKept ? {} : { failure: 'an index build takes more than is promised' }) };
  },
};

async function measure(sample: SampleTar, folder: string, log: (line: string) => void): Promise<ReportRow[]> {
  const peers = Object.entries(PEERS);
  const times = new Map<string, Times>(
    [OURS, ...peers.map(([name]) => name)].map((name) => [name, { cpuSeconds: [], wallSeconds: [] }]),
  );
  const note = (
    name: string,
    { cpuSeconds, wallSeconds }: { cpuSeconds: number; wallSeconds: number },
  ): void => {
    times.get(name)?.cpuSeconds.push(cpuSeconds);
    times.get(name)?.wallSeconds.push(wallSeconds);
  };
  let last: IndexResult | undefined;
  const { path, sha256 } = sample;
  const image = await writeImageOf(folder, { repository: 'app', path, diffId: `sha256:${sha256}` });
  await using upstream = await DemoUpstream.startWith([image], {});
  const pulls: ProxyPull[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    log(`round ${round} of ${ROUNDS}`);
    last = await buildOnce(sample, folder);
    note(OURS, last);
    for (const [name, command] of peers) note(name, await timeCommand([...command, path]));
    pulls.push(await indexThroughProxy(upstream.url, image, join(folder, `proxy${round}`)));
  }
  const uncompressedBytes = last?.summary.uncompressedBytes ?? Number.NaN;
  const describeTimes = (what: string, { cpuSeconds, wallSeconds }: Times): ReportRow => ({
    what,
    'CPU s': rounded(percentile(cpuSeconds, 0.5)),
    'wall s': rounded(percentile(wallSeconds, 0.5)),
    'MB/s': Math.round(uncompressedBytes / 1e6 / percentile(wallSeconds, 0.5)),
  });
  return [
    ...Array.from(times, ([name, taken]) => ({
      ...describeTimes(name, taken),
      ...(name === OURS ? describeBuild(last, times) : {}),
    })),
    {
      ...describeTimes('proxy, from a registry', {
        cpuSeconds: pulls.map(({ cpuSeconds }) => cpuSeconds),
        wallSeconds: pulls.map(({ wallSeconds }) => wallSeconds),
      }),
      ...pulls.at(-1)?.described,
    },
  ];
}

interface ProxyPull {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly described: ReportRow;
}

/** The layer comes from a registry on the same machine, and is indexed as it arrives. */
async function indexThroughProxy(upstreamUrl: string, image: SampleImage, root: string): Promise<ProxyPull> {
  await using proxy = await ProxyProcess.start({ upstreamUrl, root });
  const url = proxy.layerUrl(image.repository, largeLayer(image).digest);
  // Reading the delay resets it.
  await proxy.describe();
  const before = await proxy.cpuSeconds();
  const started = performance.now();
  const response = await fetch(`${url}/spans`);
  await response.arrayBuffer();
  const wallSeconds = (performance.now() - started) / 1000;
  if (!response.ok) throw new Error(`the layer is not indexed: ${response.status}`);
  const cpuSeconds = (await proxy.cpuSeconds()) - before;
  const { 'event loop p99 ms': delay = '', 'peak MB': peak = '' } = await proxy.describe();
  return { cpuSeconds, wallSeconds, described: { 'peak MB': peak, 'event loop p99 ms': delay } };
}

/** Medians over the rounds; each ratio uses numbers of one round. */
function describeBuild(last: IndexResult | undefined, times: ReadonlyMap<string, Times>): ReportRow {
  const ours = times.get(OURS);
  const [gzip, pigz, sha256sum] = ['gzip -dc', 'pigz -dc', 'sha256sum'].map((name) => times.get(name));
  const paired = (ratio: (round: number) => number): number =>
    rounded(
      percentile(
        Array.from({ length: ROUNDS }, (_, round) => ratio(round)),
        0.5,
      ),
    );
  const at = (values: readonly number[] | undefined, round: number): number => values?.[round] ?? Number.NaN;
  return {
    [CPU_RATIO]: paired(
      (round) =>
        at(ours?.cpuSeconds, round) / (at(pigz?.cpuSeconds, round) + 2 * at(sha256sum?.cpuSeconds, round)),
    ),
    [WALL_RATIO]: paired((round) => at(ours?.wallSeconds, round) / at(gzip?.wallSeconds, round)),
    'peak MB': Math.round((last?.peakBytes ?? Number.NaN) / 1e6),
    'event loop p99 ms': rounded(last?.eventLoopP99Ms ?? Number.NaN),
    spans: last?.summary.spanCount ?? 0,
    files: last?.summary.fileCount ?? 0,
  };
}

/** A build in a separate process; its digests must be right. */
async function buildOnce({ path, sha256 }: SampleTar, folder: string): Promise<IndexResult> {
  const stdout = await runProgram('node', [MAIN, '--file', path, '--folder', folder]);
  const result = JSON.parse(stdout.toString()) as IndexResult;
  if (result.summary.diffId !== `sha256:${sha256}`)
    throw new Error('the build has another diffID than the tar');
  if (result.summary.ztoc === undefined) throw new Error('the layer has no zTOC');
  if (result.summary.layerBytes !== (await stat(path)).size)
    throw new Error('the build has not read the whole layer');
  return result;
}

function rounded(value: number): number {
  return Number(value.toFixed(2));
}
