import { type DestinationStream, type Logger, pino } from 'pino';

import { escapeJson } from '../core/escape-controls.ts';

export type { Logger } from 'pino';

// Headers and URL queries carry credentials and signatures: they are never written, wherever in a line they stand.
const REDACTED_PATHS = ['authorization', 'cookie', '*.authorization', '*.cookie', '*.headers', 'headers'];

/** Structured log, one JSON object a line. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    serializers: { err: describeError },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    // A log may be read on a terminal.
    hooks: { streamWrite: escapeJson },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** Of an error only what we know the meaning of: those of libraries carry requests and commands, with the passwords in them. */
function describeError(error: unknown): unknown {
  if (error === undefined) return undefined;
  if (!(error instanceof Error)) return { type: typeof error };
  const { type, message, stack, code, detail } = pino.stdSerializers.err(error);
  return { type, message, stack, code: code as unknown, detail: detail as unknown };
}
