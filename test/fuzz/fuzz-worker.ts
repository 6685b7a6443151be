import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';

import { loadCorpus } from './corpus.ts';
import { type BatchRequest, NO_CASE, type WorkerReport, type WorkerSettings } from './fuzz-messages.ts';
import { type CaseSurroundings, runCase } from './run-case.ts';
import { findTarget } from './targets/all-targets.ts';

// Entry of the thread that runs cases, so that an endless case can be stopped.

const { corpus: corpusSize, scratch, running } = workerData as WorkerSettings;
const current = new Int32Array(running);
const collectGarbage = exposeGarbageCollection();
const given: CaseSurroundings = { corpus: await loadCorpus(corpusSize), scratch };

/** A batch stops after this many findings, which are probably the same. */
const MAX_FAILURES = 5;

function report(message: WorkerReport): void {
  parentPort?.postMessage(message);
}

async function runBatch({ target: name, seed, from, to }: BatchRequest): Promise<void> {
  const target = findTarget(name);
  const outcomes = new Map<string, number>();
  let slowest = { caseNumber: from, cpuMs: 0 };
  let failures = 0;
  for (let number = from; number < to && failures < MAX_FAILURES; number++) {
    Atomics.store(current, 0, number);
    const {
      outcome = 'FAILED',
      problem,
      input,
      cpuMs,
    } = await runCase(target, { seed, target: name, number }, given);
    Atomics.store(current, 0, NO_CASE);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (problem !== undefined) {
      failures++;
      report({ kind: 'failure', failure: { caseNumber: number, problem, input } });
    }
    if (cpuMs > slowest.cpuMs) slowest = { caseNumber: number, cpuMs };
  }
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  report({ kind: 'done', outcomes, usedBytes: heapUsed + external, slowest });
}

function exposeGarbageCollection(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

// An error ends the thread, and its owner notices that.
parentPort?.on('message', (request: BatchRequest) => void runBatch(request));
report({ kind: 'ready' });
