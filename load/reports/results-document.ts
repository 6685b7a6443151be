import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

import type { ReportRow } from '../scenario.ts';

/** A file of `results/`, written by `saveResults`. */
interface SavedResult {
  readonly scenario: string;
  readonly question: string;
  readonly date: string;
  readonly commit: string;
  readonly node: string;
  readonly processor: string;
  readonly network: string;
  readonly failure?: string;
  readonly rows: readonly ReportRow[];
}

const RESULTS = new URL('../results/', import.meta.url);
const DOCUMENT = new URL('../RESULTS.md', import.meta.url);

/** Writes `RESULTS.md` from all saved results; returns its path. */
export function writeResultsDocument(): string {
  writeFileSync(DOCUMENT, printResults());
  return DOCUMENT.pathname;
}

/** All saved results with their charts, in Markdown. */
export function printResults(): string {
  const files = readdirSync(RESULTS).toSorted();
  const results = files
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(new URL(name, RESULTS), 'utf8')) as SavedResult);
  const parts = results.map((result) =>
    printResult(
      result,
      files.filter((name) => name.startsWith(`${result.scenario}-`) && name.endsWith('.svg')),
    ),
  );
  return `${[HEAD, ...parts].join('\n\n')}\n`;
}

const HEAD = `<!-- generated from load/results by npm run docs -->

# Measured results

Each table is the last saved run of one scenario. [load/README.md](README.md) describes the scenarios and says
how to read the numbers: compare the rows of one table, never the seconds of two tables.
[docs/limits.md](../docs/limits.md) compares the numbers with what is promised.`;

function printResult(result: SavedResult, charts: readonly string[]): string {
  const { scenario, question, date, commit, node, processor, network, failure, rows } = result;
  const lines = [
    `## ${scenario}`,
    '',
    question,
    '',
    `\`npm run load -- ${scenario}\`, ${date.slice(0, 10)}, commit \`${commit}\`, ` +
      `Node ${node.replace('v', '')},`,
    `${processor}, ${network}.`,
    ...(failure === undefined ? [] : ['', `**A promise was not kept in this run:** ${failure}.`]),
    ...splitTables(rows).flatMap((table) => ['', printTable(table)]),
    ...charts.flatMap((chart) => [
      '',
      `![${chart.replace('.svg', '').replaceAll('-', ' ')}](results/${chart})`,
    ]),
  ];
  return lines.join('\n');
}

/** Rows that share only their first column belong to different tables. */
function splitTables(rows: readonly ReportRow[]): ReportRow[][] {
  const tables: ReportRow[][] = [];
  for (const row of rows) {
    const last = tables.at(-1);
    const known = new Set(last?.flatMap((other) => Object.keys(other).slice(1)));
    if (
      last !== undefined &&
      Object.keys(row)
        .slice(1)
        .some((column) => known.has(column))
    )
      last.push(row);
    else tables.push([row]);
  }
  return tables;
}

function printTable(rows: readonly ReportRow[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map((column) => String(row[column] ?? '')))),
  ].join('\n');
}
