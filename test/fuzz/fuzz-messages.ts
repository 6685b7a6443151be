import type { CorpusSize } from './corpus.ts';

/** Start options of a worker. */
export interface WorkerSettings {
  readonly corpus: CorpusSize;
  readonly scratch: string;
  /** Number of the running case, for the watcher; {@link NO_CASE} between cases. */
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
      /** Number of cases by outcome. */
      readonly outcomes: ReadonlyMap<string, number>;
      /** Memory in use after a garbage collection. */
      readonly usedBytes: number;
      readonly slowest: { readonly caseNumber: number; readonly cpuMs: number };
    };
