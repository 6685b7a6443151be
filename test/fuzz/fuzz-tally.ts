import type { Batch } from './fuzz-runner.ts';
import type { FuzzTarget } from './target.ts';

interface TargetTally {
  cases: number;
  readonly outcomes: Map<string, number>;
  slowest: { caseNumber: number; cpuMs: number };
}

/** Counts the outcomes of cases, and prints progress. */
export class FuzzTally {
  readonly #started = performance.now();
  readonly #targets: ReadonlyMap<string, TargetTally>;
  readonly #maxCases: number;
  #failures = 0;
  #firstUsedBytes: number | undefined;
  #lastUsedBytes = 0;
  #mostUsedBytes = 0;

  constructor(targets: readonly FuzzTarget[], maxCases: number) {
    this.#maxCases = maxCases;
    this.#targets = new Map(
      targets.map(({ name }) => [
        name,
        { cases: 0, outcomes: new Map(), slowest: { caseNumber: 0, cpuMs: 0 } } satisfies TargetTally,
      ]),
    );
  }

  get cases(): number {
    return [...this.#targets.values()].reduce((sum, { cases }) => sum + cases, 0);
  }

  get failures(): number {
    return this.#failures;
  }

  get elapsedMs(): number {
    return performance.now() - this.#started;
  }

  /** Number of the first case that the target has not run yet. */
  nextCase(target: string): number {
    return this.#of(target).cases;
  }

  add(target: string, { outcomes, findings, usedBytes, slowest }: Batch): void {
    const tally = this.#of(target);
    const last = Math.max(-1, ...findings.map(({ caseNumber }) => caseNumber));
    const done = [...outcomes.values()].reduce((sum, count) => sum + count, 0);
    // A dead thread did not report its position: continue after the case that ended it.
    tally.cases = usedBytes === undefined ? last + 1 : tally.cases + done;
    for (const [outcome, count] of outcomes)
      tally.outcomes.set(outcome, (tally.outcomes.get(outcome) ?? 0) + count);
    this.#failures += findings.length;
    if (slowest !== undefined && slowest.cpuMs > tally.slowest.cpuMs) tally.slowest = slowest;
    if (usedBytes === undefined) return;
    this.#firstUsedBytes ??= usedBytes;
    this.#lastUsedBytes = usedBytes;
    this.#mostUsedBytes = Math.max(this.#mostUsedBytes, usedBytes);
  }

  /** A line that is redrawn on a terminal. */
  showProgress(target: string): void {
    if (!process.stderr.isTTY) return;
    const { cases } = this;
    const all = Number.isFinite(this.#maxCases) ? ` of ${this.#maxCases}` : '';
    const rate = Math.round((1000 * cases) / this.elapsedMs);
    process.stderr.write(
      `\r\u001b[K${cases}${all} cases, ${rate}/s, ${this.#failures} failed, ${megabytes(this.#lastUsedBytes)} in use (${target})`,
    );
  }

  summary(seed: number): string {
    const lines = [...this.#targets].map(([name, { cases, outcomes, slowest }]) => {
      const sorted = [...outcomes].toSorted(([, a], [, b]) => b - a);
      const counts = sorted.map(([outcome, count]) => `${outcome} ${count}`).join(', ');
      return `${name.padEnd(18)} ${String(cases).padStart(9)}  ${counts}; slowest ${Math.round(slowest.cpuMs)} ms (case ${slowest.caseNumber})`;
    });
    const seconds = (this.elapsedMs / 1000).toFixed(0);
    const memory = [this.#firstUsedBytes ?? 0, this.#lastUsedBytes, this.#mostUsedBytes].map(megabytes);
    const total = `${this.cases} cases in ${seconds} s, seed ${seed}: ${this.#failures} failed`;
    return `${[...lines, total].join('\n')}\nin use: ${memory[0]} at first, ${memory[1]} at last, ${memory[2]} at most\n`;
  }

  #of(target: string): TargetTally {
    const tally = this.#targets.get(target);
    if (tally === undefined) throw new Error(`no such target: ${target}`);
    return tally;
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
