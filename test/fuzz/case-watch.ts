/** Resources that a case used in its thread. */
export interface CaseCost {
  readonly cpuMs: number;
  /** Most CPU time between two turns of the event loop. */
  readonly longestTurnMs: number;
  /** Growth of heap and buffers during a turn, garbage included. */
  readonly memoryBytes: number;
}

/** Measures a running case at each turn of the event loop. */
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

  /** The usage so far. */
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
