import type { Chart } from './chart.ts';
import type { Wire } from './wire.ts';

/** A question that a run can answer. */
export interface Scenario {
  readonly name: string;
  readonly question: string;
  /** Run it; progress goes to `log`. */
  run(options: ScenarioOptions): Promise<ScenarioResult>;
}

export interface ScenarioOptions {
  /** Numbers of clients at once, one after another; the scenario's own when not given. */
  readonly clients?: readonly number[];
  /** How clients talk to the servers; all of them when not given. */
  readonly wires?: readonly Wire[];
  /** How often each measurement is repeated, where it is; the scenario's own number when not given. */
  readonly rounds?: number;
  /** How long to go on, for scenarios that could for ever. */
  readonly minutes?: number;
  /** Most clients that this peer is measured with: 0 leaves it out, undefined is up to the scenario. */
  readonly capOf: (peer: string) => number | undefined;
  readonly log: (line: string) => void;
}

export interface ScenarioResult {
  readonly rows: readonly ReportRow[];
  /** Each becomes an SVG file. */
  readonly charts?: readonly Chart[];
  /** A promise that has not been kept; the run's exit status tells. */
  readonly failure?: string;
}

/** One line of the report; the keys are the columns. */
export type ReportRow = Readonly<Record<string, string | number>>;
