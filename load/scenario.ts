import type { Chart } from './reports/chart.ts';
import type { Wire } from './clients/wire.ts';

/** A question that a run answers. */
export interface Scenario {
  readonly name: string;
  readonly question: string;
  /** Runs it; progress goes to `log`. */
  run(options: ScenarioOptions): Promise<ScenarioResult>;
}

export interface ScenarioOptions {
  /** Numbers of concurrent clients, measured one after the other; default: the scenario's. */
  readonly clients?: readonly number[];
  /** How clients connect to the servers; default: all ways. */
  readonly wires?: readonly Wire[];
  /** How often each measurement is repeated; default: the scenario's number. */
  readonly rounds?: number;
  /** Duration of scenarios without an end of their own. */
  readonly minutes?: number;
  /** Most clients that this peer is measured with; 0 leaves it out, `undefined` leaves it to the scenario. */
  readonly capOf: (peer: string) => number | undefined;
  readonly log: (line: string) => void;
}

export interface ScenarioResult {
  readonly rows: readonly ReportRow[];
  /** Each becomes an SVG file. */
  readonly charts?: readonly Chart[];
  /** Promises that were not kept; they set the exit status. */
  readonly failure?: string;
}

/** One line of the report; the keys are the columns. */
export type ReportRow = Readonly<Record<string, string | number>>;
