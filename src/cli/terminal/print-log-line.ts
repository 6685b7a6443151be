import { styleText } from 'node:util';

import { escapeControls, escapeLines } from '../../core/escape-controls.ts';

interface LogLine {
  readonly level: string;
  readonly time: string;
  readonly msg?: string;
  readonly err?: { readonly message?: string; readonly stack?: string };
  readonly [field: string]: unknown;
}

/** Lines of requests have many fields; a person first needs these. */
const REQUEST_MESSAGES: readonly unknown[] = ['request', 'operations request'];
const LEVEL_STYLES = { warn: 'yellow', error: 'red', fatal: 'red' } as const;
/** `2026-11-28T14:38:57.872Z` without the date and the milliseconds. */
const CLOCK = { start: 11, end: 19 };

/**
 * A line of the log, which is JSON, as text for a terminal, without control characters.
 * @param stream  where it is written: decides with NO_COLOR and FORCE_COLOR whether it has colours
 */
export function printLogLine(json: string, stream: NodeJS.WritableStream): string {
  const line = JSON.parse(json) as LogLine;
  const { level, time, msg, err, requestId, ...fields } = line;
  const isRequest = REQUEST_MESSAGES.includes(msg);
  const isCalm = !Object.hasOwn(LEVEL_STYLES, level);
  const text = isRequest ? printRequest(line) : escapeControls(msg ?? '');
  const more = isRequest ? {} : fields;
  const details = Object.entries({ ...more, ...(isCalm ? {} : { requestId }), error: err?.message })
    .filter(([, value]) => value !== undefined && value !== msg)
    .map(([name, value]) => `${name}=${printValue(value)}`);
  const paint = (style: Parameters<typeof styleText>[0], plain: string): string =>
    styleText(style, plain, { stream });
  const head = [
    paint('dim', time.slice(CLOCK.start, CLOCK.end)),
    ...(isCalm ? [] : [paint(LEVEL_STYLES[level as keyof typeof LEVEL_STYLES], level)]),
    text,
    ...(details.length === 0 ? [] : [paint('dim', details.join(' '))]),
  ].join(' ');
  return `${[head, ...(err?.stack === undefined ? [] : [escapeLines(err.stack)])].join('\n')}\n`;
}

/** Method, path, status, error code, bytes, where they came from, and how long it took. */
function printRequest({ method, path, status, code, bytes, source, ms }: LogLine): string {
  const parts = [
    `${printValue(method)} ${printValue(path)} ${printValue(status)}`,
    ...(code === undefined ? [] : [printValue(code)]),
    ...(bytes === undefined ? [] : [`${printValue(bytes)} bytes`]),
    ...(source === undefined ? [] : [`from ${printValue(source)}`]),
    ...(ms === undefined ? [] : [`in ${Math.round(Number(ms))} ms`]),
  ];
  return parts.join(' ');
}

function printValue(value: unknown): string {
  return escapeControls(typeof value === 'string' ? value : JSON.stringify(value));
}
