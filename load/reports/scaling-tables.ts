import { readFileSync } from 'node:fs';

import type { ReportRow } from '../scenario.ts';
import { FIGURES, type Figure } from '../simulation/figures.ts';
import { PRICES } from '../simulation/prices.ts';

const RESULT = new URL('../results/scale.json', import.meta.url);

/** Columns of the saved rows in a table. */
const NEEDS = ['image', 'nodes', 'form', 'replicas', 'alone s', 'p50 s', 'p99 s', 'busiest thread', 'Gbit/s'];
const COSTS = [
  'image',
  'nodes',
  'form',
  '$/h replicas',
  'GB to nodes',
  '$ between zones',
  '$ balancer',
  'requests/s',
  'nodes of a replica',
];
const COLD = [
  'image',
  'nodes',
  'form',
  'replicas',
  'cold: p50 s',
  'cold: p99 s',
  'cold: GB from S3',
  'cold: GB between replicas',
  'cold: S3 requests',
  '$ S3 requests',
  'cold: Redis commands',
];

/** Columns that follow from saved ones. */
const PRICED: Readonly<Record<string, (row: ReportRow) => number>> = {
  '$ balancer': (row) => Number(row['GB to nodes']) * PRICES.gigabyteOfBalancer,
  '$ S3 requests': (row) => Number(row['cold: S3 requests']) * PRICES.s3Get,
};

/** What the nodes of each case need, as a Markdown table. */
export function printNeeds(): string {
  return printColumns(NEEDS);
}

export function printCosts(): string {
  return printColumns(COSTS);
}

export function printColdArrivals(): string {
  return printColumns(COLD);
}

/** The inputs of the simulation: what was measured, then what is assumed. */
export function printFigures(): string {
  const figures: Figure[] = Object.values(FIGURES);
  const sorted = figures.toSorted(
    (a, b) => Number(a.measured === undefined) - Number(b.measured === undefined),
  );
  const lines = sorted.map(({ value, unit, meaning, measured }) => {
    const source = measured === undefined ? '**assumed**' : `measured: ${measured}`;
    return `| ${value} ${unit} | ${meaning} | ${source} |`;
  });
  return ['| value | of | source |', '| --- | --- | --- |', ...lines].join('\n');
}

function printColumns(columns: readonly string[]): string {
  const { rows } = JSON.parse(readFileSync(RESULT, 'utf8')) as { rows: readonly ReportRow[] };
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map((column) => column.replace('cold: ', ''))),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map((column) => cellOf(row, column)))),
  ].join('\n');
}

function cellOf(row: ReportRow, column: string): string | number {
  const price = PRICED[column];
  return price === undefined ? (row[column] ?? '') : Number(price(row).toPrecision(2));
}
