/**
 * Most bytes that one request may have decoded without being served: those before its ranges in zstd frames.
 */
export class SkipAllowance {
  leftBytes: number;

  constructor(maxBytes: number) {
    this.leftBytes = maxBytes;
  }

  spend(bytes: number): void {
    this.leftBytes = Math.max(0, this.leftBytes - bytes);
  }
}

/** On whose behalf spans are read. */
export interface Reading {
  /** Ends the wait, not the work. */
  readonly signal: AbortSignal;
  /** Fairness key of the reads: the client's address. */
  readonly fairnessKey: string;
  readonly allowance: SkipAllowance;
}
