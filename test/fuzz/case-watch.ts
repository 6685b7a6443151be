/** What a case has taken of its thread. */
export interface CaseCost {
  readonly cpuMs: number;
  /** CPU time between two turns of the event loop, at most. */
  readonly longestTurnMs: number;
  /** Heap and buffers at the end of a turn, beyond those at the start; garbage included. */
  readonly memoryBytes: number;
}

/** Measures a case while it runs: looks at each turn of the event loop. */
export class CaseWatch implements Disposable {
  readonly #startMemoryBytes = memoryBytes();
  readonly #start = process.threadCpuUsage();
  #turnStart = this.#start;
  #longestTurnMs = 0;
  #mostMemoryBytes = 0;
  #next: NodeJS.Immediate;

  constructor() {
    const look = (): void => {
      this.#endTurn();
      this.#next = setImmediate(look);
    };
    this.#next = setImmediate(look);
  }

  /** Up to now. */
  cost(): CaseCost {
    this.#endTurn();
    return {
      cpuMs: cpuMsSince(this.#start),
      longestTurnMs: this.#longestTurnMs,
      memoryBytes: Math.max(0, this.#mostMemoryBytes - this.#startMemoryBytes),
    };
  }

  #endTurn(): void {
    this.#longestTurnMs = Math.max(this.#longestTurnMs, cpuMsSince(this.#turnStart));
    this.#mostMemoryBytes = Math.max(this.#mostMemoryBytes, memoryBytes());
    this.#turnStart = process.threadCpuUsage();
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#next);
  }
}

function cpuMsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.threadCpuUsage(start);
  return (user + system) / 1000;
}

function memoryBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
