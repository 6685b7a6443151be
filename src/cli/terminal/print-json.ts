import { escapeJson } from '../../core/escape-controls.ts';

/** A value as one line of JSON on standard output, which may be a terminal. */
export function printJson(value: unknown): void {
  process.stdout.write(`${escapeJson(JSON.stringify(value))}\n`);
}
