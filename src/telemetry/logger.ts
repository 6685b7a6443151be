import { type DestinationStream, type Logger as PinoLogger, pino } from 'pino';

import { isSpandrelError } from '../core/errors.ts';
import { escapeJson } from '../core/escape-controls.ts';
import { currentRequestId } from './run-for-request.ts';

export type Logger = PinoLogger;

// Headers contain credentials and signatures, so they are masked anywhere in a line.
const REDACTED_PATHS = ['authorization', 'cookie', '*.authorization', '*.cookie', '*.headers', 'headers'];

/**
 * A structured log with one JSON object per line. Lines that belong to a request have its id.
 * @param print  rewrites each line, which is JSON, before it is written
 */
export function createLogger(
  level: string,
  destination?: DestinationStream,
  print: (line: string) => string = escapeJson,
): Logger {
  const options = {
    level,
    base: null,
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    serializers: { err: describeError },
    mixin: () => {
      const requestId = currentRequestId();
      return requestId === undefined ? {} : { requestId };
    },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    // Logs are read on terminals, which interpret control characters.
    hooks: { streamWrite: print },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** A log that nobody reads. It holds nothing of the process. */
export function silentLogger(): Logger {
  return createLogger('silent', { write: () => undefined });
}

/** The log for a library, which writes nothing below `warn` to it. */
export function libraryLogger(logger: Logger): Logger {
  return logger.child({}, { level: logger.isLevelEnabled('warn') ? 'warn' : logger.level });
}

/**
 * Selects known fields of an error: errors of libraries contain requests and commands, with their passwords.
 * An expected failure has no stack: it does not come from a defect.
 */
function describeError(error: unknown): unknown {
  if (error === undefined) return undefined;
  if (!(error instanceof Error)) return { type: typeof error };
  const { type, message, stack, code, detail } = pino.stdSerializers.err(error);
  const isExpected = isSpandrelError(error) && error.code !== 'INTERNAL';
  return {
    type,
    message,
    ...(isExpected ? {} : { stack }),
    code: code as unknown,
    detail: detail as unknown,
  };
}
