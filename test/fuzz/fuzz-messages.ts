import type { CorpusSize } from './corpus.ts';

/** What a worker is started with. */
export interface WorkerSettings {
  readonly corpus: CorpusSize;
  readonly scratch: string;
  /** Number of the running case, for who watches; {@link NO_CASE} between cases. */
  readonly running: SharedArrayBuffer;
}

export const NO_CASE = -1;

/** To the worker: run cases [from, to) of a target. */
export interface BatchRequest {
  readonly target: string;
  readonly seed: number;
  readonly from: number;
  readonly to: number;
}

export interface Failure {
  readonly caseNumber: number;
  readonly problem: string;
  readonly input: Uint8Array;
}

/** From the worker; one `done` ends a batch. */
export type WorkerReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failure'; readonly failure: Failure }
  | {
      readonly kind: 'done';
      /** Cases by what came of them. */
      readonly outcomes: ReadonlyMap<string, number>;
      /** What is in use after a garbage collection. */
      readonly usedBytes: number;
      readonly slowest: { readonly caseNumber: number; readonly cpuMs: number };
    };
