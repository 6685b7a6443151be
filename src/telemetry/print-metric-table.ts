import type { MetricDescription } from './metric-registry.ts';

/** The table of all metrics, in Markdown. */
export function printMetricTable(metrics: readonly MetricDescription[]): string {
  const lines = metrics.map(
    ({ name, type, labels, help }) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  );
  return ['| metric | type | labels | meaning |', '|---|---|---|---|', ...lines].join('\n');
}
