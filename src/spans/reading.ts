/** Most bytes that one request may have decoded without being served them: what lies ahead of ranges in zstd frames. */
export class SkipAllowance {
  leftBytes: number;

  constructor(maxBytes: number) {
    this.leftBytes = maxBytes;
  }

  spend(bytes: number): void {
    this.leftBytes = Math.max(0, this.leftBytes - bytes);
  }
}

/** Who reads. */
export interface Reading {
  /** Ends the waiting, not the work. */
  readonly signal: AbortSignal;
  /** Reads of one line take turns with those of others: an address of a client. */
  readonly line: string;
  readonly allowance: SkipAllowance;
}
