import { type DestinationStream, type Logger as PinoLogger, pino } from 'pino';

import { escapeJson } from '../core/escape-controls.ts';

export type Logger = PinoLogger;

// Headers contain credentials and signatures, so they are masked anywhere in a line.
const REDACTED_PATHS = ['authorization', 'cookie', '*.authorization', '*.cookie', '*.headers', 'headers'];

/** A structured log with one JSON object per line. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    serializers: { err: describeError },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    // Logs are read on terminals, which interpret control characters.
    hooks: { streamWrite: escapeJson },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/**
 * Selects known fields of an error: errors of libraries contain requests and commands, with their passwords.
 */
function describeError(error: unknown): unknown {
  if (error === undefined) return undefined;
  if (!(error instanceof Error)) return { type: typeof error };
  const { type, message, stack, code, detail } = pino.stdSerializers.err(error);
  return { type, message, stack, code: code as unknown, detail: detail as unknown };
}
