import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { InflateResult } from '../inflate-main.ts';
import { percentile } from '../percentile.ts';
import { makeSampleTars, type SampleTar } from '../sample-tars.ts';
import type { ReportRow, Scenario } from '../scenario.ts';

const MAIN = new URL('../inflate-main.ts', import.meta.url).pathname;
/** `zlib raw` neither checks a CRC-32 nor gives checkpoints; `zlib gunzip` checks. */
const ENGINES = ['wasm', 'pako', 'zlib raw', 'zlib gunzip'] as const;
const ROUNDS = 5;
const PASSES = 3;

type Speeds = Record<(typeof ENGINES)[number], { cpu: number[]; wall: number[] }>;

/** How fast is gzip decoded? */
export const inflate: Scenario = {
  name: 'inflate',
  question: 'How fast do the engines decode gzip, with CRC and checkpoints, compared with node:zlib without?',
  async run({ log }) {
    const folder = await mkdtemp(join(tmpdir(), 'spandrel-inflate-'));
    try {
      log('making tars');
      const rows: ReportRow[] = [];
      for (const sample of await makeSampleTars(folder)) {
        log(`${sample.name}: ${ROUNDS} rounds`);
        rows.push(...(await measure(sample)));
      }
      return { rows };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** All engines in turn, each in a process of its own, and again. */
async function measure(sample: SampleTar): Promise<ReportRow[]> {
  const speeds: Speeds = {
    wasm: { cpu: [], wall: [] },
    pako: { cpu: [], wall: [] },
    'zlib raw': { cpu: [], wall: [] },
    'zlib gunzip': { cpu: [], wall: [] },
  };
  let uncompressedBytes = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const engine of ENGINES) {
      const result = await runOnce(engine, sample);
      ({ uncompressedBytes } = result);
      // The best pass of a process is the one that others have disturbed least.
      speeds[engine].cpu.push(uncompressedBytes / 1e6 / Math.min(...result.cpuSeconds));
      speeds[engine].wall.push(uncompressedBytes / 1e6 / Math.min(...result.wallSeconds));
    }
  }
  const { size: compressedBytes } = await stat(sample.path);
  const ratio = Number((uncompressedBytes / compressedBytes).toFixed(1));
  return ENGINES.map((engine) => ({
    tar: sample.name,
    ratio,
    engine,
    'MB/s of CPU': Math.round(percentile(speeds[engine].cpu, 0.5)),
    'MB/s': Math.round(percentile(speeds[engine].wall, 0.5)),
    ...Object.fromEntries(
      (['pako', 'zlib raw', 'zlib gunzip'] as const).map((other) => [
        `÷ ${other}`,
        pairedRatio(speeds[engine].cpu, speeds[other].cpu),
      ]),
    ),
  }));
}

/** Median over the rounds of the speed of one engine by that of another in the same round. */
function pairedRatio(speeds: readonly number[], others: readonly number[]): number {
  const ratios = speeds.map((speed, round) => speed / (others[round] ?? Number.NaN));
  return Number(percentile(ratios, 0.5).toFixed(2));
}

async function runOnce(engine: string, { path, sha256 }: SampleTar): Promise<InflateResult> {
  const args = [MAIN, '--engine', engine, '--file', path, '--passes', String(PASSES)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const result = JSON.parse(stdout) as InflateResult;
  if (result.sha256 !== sha256) throw new Error(`${engine} decodes ${path} to something else`);
  return result;
}
