import { escapeJson } from '../../core/escape-controls.ts';

/** Prints a value as one line of JSON, escaped for terminals. */
export function printJson(value: unknown): void {
  process.stdout.write(`${escapeJson(JSON.stringify(value))}\n`);
}
