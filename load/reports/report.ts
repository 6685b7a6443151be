import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';

import { runProgramSync } from '../../test/helpers/programs.ts';
import { drawChart } from './chart.ts';
import { describeNetwork } from '../processes/own-network.ts';
import type { ReportRow, Scenario, ScenarioResult } from '../scenario.ts';

/** Formats rows as an aligned table for a terminal. */
export function formatTable(rows: readonly ReportRow[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))];
  const widths = columns.map((_, place) => Math.max(...lines.map((line) => (line[place] ?? '').length)));
  return lines
    .map((line) => line.map((cell, place) => cell.padStart(widths[place] ?? 0)).join('  '))
    .join('\n');
}

/** Writes `results/<scenario>.json` (rows and environment) and the charts; returns the paths. */
export async function saveResults(
  scenario: Scenario,
  { rows, charts = [], failure }: ScenarioResult,
): Promise<string[]> {
  const folder = new URL('../results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  const file = new URL(`${scenario.name}.json`, folder);
  const [processor] = cpus();
  const result = {
    scenario: scenario.name,
    question: scenario.question,
    date: new Date().toISOString(),
    commit: runProgramSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
    node: process.version,
    processor: `${cpus().length} x ${processor?.model ?? 'unknown'}`,
    network: describeNetwork(),
    ...(failure === undefined ? {} : { failure }),
    rows,
  };
  await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`);
  const written = [file.pathname];
  for (const chart of charts) {
    const picture = new URL(`${scenario.name}-${chart.name}.svg`, folder);
    await writeFile(picture, drawChart(chart));
    written.push(picture.pathname);
  }
  return written;
}
