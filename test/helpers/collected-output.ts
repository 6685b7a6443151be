import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

import { createLogger, type Logger } from '../../src/telemetry/logger.ts';

/** Names the folder while the suite runs; not set where helpers are used by anything else. */
export const OUTPUT_FOLDER_VARIABLE = 'TEST_OUTPUT_FOLDER';

/** Stands before the name of a test, after which its output comes. */
export const TEST_MARK = '\u001e';

/** What this process collects of the kind; undefined if nothing is collected. */
export function collectedFile(kind: 'output' | 'secrets'): string | undefined {
  const folder = process.env[OUTPUT_FOLDER_VARIABLE];
  return folder === undefined ? undefined : join(folder, `${process.pid}.${kind}`);
}

/** Have what a proxy under test has printed looked through for secrets when the suite is over. */
export function collectOutput(text: string): void {
  const file = collectedFile('output');
  if (file !== undefined) appendFileSync(file, text);
}

/** A logger that shows nothing; all that it is given, on every level, is collected. */
export function collectingLogger(): Logger {
  const isCollected = collectedFile('output') !== undefined;
  return createLogger(isCollected ? 'trace' : 'silent', { write: collectOutput });
}
