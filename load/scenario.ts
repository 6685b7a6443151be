/** A question that a run can answer. */
export interface Scenario {
  readonly name: string;
  readonly question: string;
  /** Programs of Debian that it needs. */
  readonly tools?: readonly string[];
  /** Run it; progress goes to `log`. */
  run(options: ScenarioOptions): Promise<readonly ReportRow[]>;
}

export interface ScenarioOptions {
  /** Numbers of clients at once, one after another. */
  readonly clients: readonly number[];
  /** Whether a peer of this name is not to be measured. */
  readonly isLeftOut: (peer: string) => boolean;
  readonly log: (line: string) => void;
}

/** One line of the report; the keys are the columns. */
export type ReportRow = Readonly<Record<string, string | number>>;
