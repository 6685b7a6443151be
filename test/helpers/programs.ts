import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { HELM } from '../../scripts/helm-tool.mjs';
import { findNpm, findProgram, LINKS_FOLDER, PROGRAMS } from '../../scripts/programs.mjs';

const ROOT = resolve(import.meta.dirname, '../..');

/** What set-up brings along with the checkout. */
const OF_CHECKOUT = {
  node: process.execPath,
  helm: HELM,
  tsc: join(ROOT, 'node_modules/.bin/tsc'),
  /** The Python that has moto. */
  'moto-python': join(ROOT, '.test-tools/python/bin/python'),
};

/** What tests and measurements may start: what set-up installs, and npm. */
export type Program = keyof typeof PROGRAMS | keyof typeof OF_CHECKOUT | 'npm';

type Stdio = 'ignore' | 'inherit' | 'pipe';
type Piped<Kind extends Stdio, Stream> = Kind extends 'pipe' ? Stream : null;

interface ProgramOptions {
  readonly cwd?: string | undefined;
  /** Added to the environment of this process, in which PATH has the listed programs alone. */
  readonly environment?: Readonly<Record<string, string>>;
}

interface RunOptions extends ProgramOptions {
  /** Its standard input; empty without. */
  readonly input?: Uint8Array;
}

interface ProgramResult {
  /** null if a signal has ended it. */
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** Start a program, which the caller ends. @throws Error if set-up does not install it */
export function startProgram<In extends Stdio, Out extends Stdio, Err extends Stdio>(
  program: Program,
  args: readonly string[],
  options: ProgramOptions & { readonly stdio: readonly [In, Out, Err] },
): ChildProcessByStdio<Piped<In, Writable>, Piped<Out, Readable>, Piped<Err, Readable>> {
  const { stdio, ...rest } = options;
  const child: unknown = spawn(pathOf(program), args, { ...spawnOptions(rest), stdio: [...stdio] });
  return child as ChildProcessByStdio<Piped<In, Writable>, Piped<Out, Readable>, Piped<Err, Readable>>;
}

/** Run a program to its end. @throws Error if set-up does not install it */
export async function tryProgram(
  program: Program,
  args: readonly string[],
  { input, ...options }: RunOptions = {},
): Promise<ProgramResult> {
  const child = startProgram(program, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // A program that needs only the head of its input closes the pipe early.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [status, stdout, stderr] = await Promise.all([ended, buffer(child.stdout), buffer(child.stderr)]);
  return { status, stdout, stderr };
}

/** Its standard output. @throws Error with its standard error if it fails */
export async function runProgram(
  program: Program,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Buffer> {
  return outputOf(program, args, await tryProgram(program, args, options));
}

/** {@link tryProgram} while this process does nothing else. */
export function tryProgramSync(
  program: Program,
  args: readonly string[],
  { input, stdio = 'pipe', ...options }: RunOptions & { readonly stdio?: Stdio } = {},
): ProgramResult {
  const result = spawnSync(pathOf(program), args, {
    ...spawnOptions(options),
    maxBuffer: Infinity,
    stdio,
    ...(input === undefined ? {} : { input }),
  });
  // Whoever closes its standard input early need not have failed.
  if (result.error !== undefined && result.pid === 0) throw result.error;
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** {@link runProgram} while this process does nothing else. */
export function runProgramSync(program: Program, args: readonly string[], options: RunOptions = {}): Buffer {
  return outputOf(program, args, tryProgramSync(program, args, options));
}

function outputOf(program: Program, args: readonly string[], result: ProgramResult): Buffer {
  if (result.status === 0) return result.stdout;
  throw new Error(`${program} ${args.join(' ')}: exit status ${result.status}\n${result.stderr.toString()}`);
}

function spawnOptions({ cwd, environment = {} }: ProgramOptions): {
  cwd: string | undefined;
  env: NodeJS.ProcessEnv;
} {
  return { cwd, env: { ...process.env, PATH: linkedPath(), ...environment } };
}

function pathOf(program: Program): string {
  if (Object.hasOwn(OF_CHECKOUT, program)) return OF_CHECKOUT[program as keyof typeof OF_CHECKOUT];
  if (program !== 'npm' && !Object.hasOwn(PROGRAMS, program))
    throw new Error(`set-up does not install ${program}: add it to scripts/programs.mjs`);
  const path = program === 'npm' ? findNpm() : findProgram(program);
  if (path === undefined)
    throw new Error(`${program} is not installed: run node scripts/setup.mjs --with-test-tools`);
  return path;
}

let isLinked = false;

/** A PATH of one folder with the listed programs alone, so that scripts find no others either. */
function linkedPath(): string {
  if (isLinked) return LINKS_FOLDER;
  const wanted = new Map<string, string | undefined>([
    ['node', process.execPath],
    ['npm', findNpm()],
    ...Object.keys(PROGRAMS).map((name) => [name, findProgram(name)] as const),
  ]);
  mkdirSync(LINKS_FOLDER, { recursive: true });
  for (const [name, target] of wanted) if (target !== undefined) link(name, target);
  for (const name of readdirSync(LINKS_FOLDER))
    if (wanted.get(name.replace(PART, '')) === undefined) rmSync(join(LINKS_FOLDER, name), { force: true });
  isLinked = true;
  return LINKS_FOLDER;
}

/** Ends the name of a link that another process is making. */
const PART = /\.\d+$/;

/** Other processes may do the same now, or use it. */
function link(name: string, target: string): void {
  const path = join(LINKS_FOLDER, name);
  if (targetOf(path) === target) return;
  const part = `${path}.${process.pid}`;
  rmSync(part, { force: true });
  symlinkSync(target, part);
  renameSync(part, path);
}

function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
