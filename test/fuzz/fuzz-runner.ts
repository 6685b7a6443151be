import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { type CorpusSize, loadCorpus } from './corpus.ts';
import { Dice } from './dice.ts';
import {
  type BatchRequest,
  type Failure,
  NO_CASE,
  type WorkerReport,
  type WorkerSettings,
} from './fuzz-messages.ts';
import { findTarget } from './targets/all-targets.ts';

export interface FuzzRunnerOptions {
  readonly corpus: CorpusSize;
  /** Folder for the inputs of failed cases; created when needed. */
  readonly findings: string;
  /** A case that runs longer counts as a hang. */
  readonly hangMs?: number;
  /** Heap limit of the thread. */
  readonly maxHeapMb?: number;
}

/** A failed case. */
export interface Finding {
  readonly problem: string;
  readonly target: string;
  readonly seed: number;
  readonly caseNumber: number;
  readonly inputPath: string;
  /** The command that runs this case again. */
  readonly command: string;
}

export interface Batch {
  readonly outcomes: ReadonlyMap<string, number>;
  readonly findings: readonly Finding[];
  /** Memory in use after a garbage collection; absent if the thread died. */
  readonly usedBytes?: number;
  readonly slowest?: { readonly caseNumber: number; readonly cpuMs: number };
}

/** Folder where the inputs of failed cases are kept. */
export const FINDINGS = join(tmpdir(), 'spandrel-fuzz-findings');

const HANG_MS = 30_000;
const WATCH_MS = 250;
/** Limit of a case, garbage included; the heap has a limit of its own. */
const MAX_RSS_BYTES = 3 * 2 ** 30;
const MAX_HEAP_MB = 1024;

/**
 * Runs cases in a thread and watches it: a case that hangs or exhausts memory ends the thread, not the run.
 */
export class FuzzRunner implements AsyncDisposable {
  readonly #options: FuzzRunnerOptions;
  readonly #scratch = mkdtempSync(join(tmpdir(), 'spandrel-fuzz-'));
  readonly #running = new Int32Array(new SharedArrayBuffer(4)).fill(NO_CASE);
  #worker: Worker | undefined;

  constructor(options: FuzzRunnerOptions) {
    this.#options = options;
  }

  /**
   * Runs cases [from, to) of a target. If the thread dies, it stops there, and the last case is a finding.
   */
  async run(request: BatchRequest): Promise<Batch> {
    const findings: Finding[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<Batch>();
    const onReport = (report: WorkerReport): void => {
      if (report.kind === 'failure') findings.push(this.#finding(request, report.failure));
      else if (report.kind === 'done') resolve({ ...report, findings });
    };
    let isDead = false;
    const onProblem = (problem: string): void => {
      // Ending the thread emits an event too.
      if (isDead) return;
      isDead = true;
      this.#explainDeath(request, problem).then((finding) => {
        resolve({ outcomes: new Map([['FAILED', 1]]), findings: [...findings, finding] });
      }, reject);
    };
    const worker = (this.#worker ??= await this.#start());
    const onError = (error: unknown): void => onProblem(`the thread has failed: ${String(error)}`);
    const onExit = (): void => onProblem('the thread has ended');
    worker.on('message', onReport).once('error', onError).once('exit', onExit);
    const watch = setInterval(this.#watcher(onProblem), WATCH_MS);
    try {
      worker.postMessage(request);
      return await promise;
    } finally {
      clearInterval(watch);
      worker.off('message', onReport).off('error', onError).off('exit', onExit);
    }
  }

  async #explainDeath(request: BatchRequest, problem: string): Promise<Finding> {
    const caseNumber = Atomics.load(this.#running, 0);
    if (caseNumber === NO_CASE) throw new Error(`the fuzz thread has died between two cases: ${problem}`);
    await this.#stop();
    const input = await this.#inputOf({ ...request, from: caseNumber });
    return this.#finding(request, { caseNumber, problem, input });
  }

  #watcher(onProblem: (problem: string) => void): () => void {
    let watched = NO_CASE;
    let since = 0;
    const hangMs = this.#options.hangMs ?? HANG_MS;
    return () => {
      const now = performance.now();
      const running = Atomics.load(this.#running, 0);
      if (running !== watched || running === NO_CASE) [watched, since] = [running, now];
      const rss = process.memoryUsage.rss();
      const problem =
        now - since > hangMs
          ? `has not ended after ${hangMs} ms`
          : rss > MAX_RSS_BYTES
            ? `the process has grown to ${rss} bytes`
            : undefined;
      if (problem !== undefined) onProblem(problem);
    };
  }

  async #start(): Promise<Worker> {
    const { corpus } = this.#options;
    const settings: WorkerSettings = {
      corpus,
      scratch: this.#scratch,
      running: this.#running.buffer,
    };
    const worker = new Worker(new URL('./fuzz-worker.ts', import.meta.url), {
      workerData: settings,
      resourceLimits: { maxOldGenerationSizeMb: this.#options.maxHeapMb ?? MAX_HEAP_MB },
    });
    await once(worker, 'message');
    return worker;
  }

  async #stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
    this.#running[0] = NO_CASE;
  }

  async #inputOf({ target, seed, from }: BatchRequest): Promise<Uint8Array> {
    const corpus = await loadCorpus(this.#options.corpus);
    return findTarget(target).makeInput(new Dice({ seed, target, number: from }), corpus);
  }

  #finding({ target, seed }: BatchRequest, { caseNumber, problem, input }: Failure): Finding {
    const { findings, corpus } = this.#options;
    const inputPath = join(findings, `${target}-${seed}-${caseNumber}`);
    mkdirSync(findings, { recursive: true });
    writeFileSync(inputPath, input);
    const command = `npm run fuzz -- --target ${target} --seed ${seed} --case ${caseNumber} --corpus ${corpus}`;
    return { problem, target, seed, caseNumber, inputPath, command };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** Readable form. */
export function printFinding({ problem, target, caseNumber, inputPath, command }: Finding): string {
  return `${target}, case ${caseNumber}: ${problem}\n  input: ${inputPath}\n  again: ${command}`;
}
