import { stat } from 'node:fs/promises';

import { type Program, runProgram } from '../../test/helpers/programs.ts';
import type { InflateResult } from '../processes/inflate-main.ts';
import { percentile } from '../reports/percentile.ts';
import { makeSampleTars, type SampleTar } from '../samples/sample-tars.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { type CommandTimes, hashOutput, timeCommand } from '../processes/timed-command.ts';

const MAIN = new URL('../processes/inflate-main.ts', import.meta.url).pathname;
/** `zlib raw` has neither CRC-32 nor checkpoints, `zlib gunzip` verifies the CRC-32, `fflate` does not. */
const ENGINES = ['wasm', 'pako', 'zlib raw', 'zlib gunzip', 'fflate'] as const;
/** Programs that decompress a file. All verify the CRC-32. */
const PROGRAMS: readonly (readonly [Program, ...string[]])[] = [
  ['gzip', '-dc'],
  ['pigz', '-dc'],
  ['igzip', '-dc'],
  ['libdeflate-gunzip', '-c'],
];
/** Speed-up of a decoder, one column each. */
const REFERENCES = ['pako', 'zlib raw', 'zlib gunzip'] as const;
const ROUNDS = 5;
const PASSES = 3;

interface Decoder {
  readonly name: string;
  /** Decodes one or more times; the best time counts, as it was disturbed least. */
  readonly run: (sample: SampleTar) => Promise<CommandTimes>;
}

interface Speeds {
  readonly cpu: number[];
  readonly wall: number[];
}

/** How fast is gzip decoded? */
export const inflate: Scenario = {
  name: 'inflate',
  question: 'How fast do the engines decode gzip, with CRC and checkpoints, compared with other decoders?',
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making tars');
    const decoders = [...ENGINES.map(engineDecoder), ...programDecoders()];
    const rows: ReportRow[] = [];
    for (const sample of await makeSampleTars(folder.path)) {
      log(`${sample.name}: ${ROUNDS} rounds`);
      rows.push(...(await measure(sample, decoders)));
    }
    return { rows };
  },
};

/** Runs all decoders in turn, each in a separate process, for several rounds. */
async function measure(sample: SampleTar, decoders: readonly Decoder[]): Promise<ReportRow[]> {
  const { size: compressedBytes } = await stat(sample.path);
  const speeds = new Map<string, Speeds>(decoders.map(({ name }) => [name, { cpu: [], wall: [] }]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name, run } of decoders) {
      const { cpuSeconds, wallSeconds } = await run(sample);
      speeds.get(name)?.cpu.push(sample.uncompressedBytes / 1e6 / cpuSeconds);
      speeds.get(name)?.wall.push(sample.uncompressedBytes / 1e6 / wallSeconds);
    }
  }
  return Array.from(speeds, ([name, { cpu, wall }]) => ({
    tar: sample.name,
    ratio: Number((sample.uncompressedBytes / compressedBytes).toFixed(1)),
    engine: name,
    'MB/s of CPU': Math.round(percentile(cpu, 0.5)),
    'MB/s': Math.round(percentile(wall, 0.5)),
    ...Object.fromEntries(
      REFERENCES.map((other) => [`÷ ${other}`, pairedRatio(cpu, speeds.get(other)?.cpu ?? [])]),
    ),
  }));
}

/** Median over the rounds of the speed of one decoder relative to another in the same round. */
function pairedRatio(speeds: readonly number[], others: readonly number[]): number {
  const ratios = speeds.map((speed, round) => speed / (others[round] ?? Number.NaN));
  return Number(percentile(ratios, 0.5).toFixed(2));
}

function engineDecoder(name: string): Decoder {
  return {
    name,
    async run({ path, sha256 }) {
      const args = [MAIN, '--engine', name, '--file', path, '--passes', String(PASSES)];
      const stdout = await runProgram('node', args);
      const result = JSON.parse(stdout.toString()) as InflateResult;
      if (result.sha256 !== sha256) throw new Error(`${name} decodes ${path} to something else`);
      return {
        cpuSeconds: Math.min(...result.cpuSeconds),
        wallSeconds: Math.min(...result.wallSeconds),
      };
    },
  };
}

function programDecoders(): Decoder[] {
  return PROGRAMS.map((command) => ({
    name: command.join(' '),
    async run({ path, sha256 }) {
      const [program, ...options] = command;
      const args = [...options, path];
      if ((await hashOutput(program, args)) !== sha256)
        throw new Error(`${program} decodes ${path} to something else`);
      const passes: CommandTimes[] = [];
      for (let pass = 0; pass < PASSES; pass++) passes.push(await timeCommand([program, ...args]));
      return {
        cpuSeconds: Math.min(...passes.map(({ cpuSeconds }) => cpuSeconds)),
        wallSeconds: Math.min(...passes.map(({ wallSeconds }) => wallSeconds)),
      };
    },
  }));
}
