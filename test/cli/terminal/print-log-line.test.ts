import { Writable } from 'node:stream';

import { expect, it } from 'vitest';

import { printLogLine } from '../../../src/cli/terminal/print-log-line.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import { createLogger, type Logger } from '../../../src/telemetry/logger.ts';

const PLAIN = new Writable();

/** What a terminal shows of the lines that `write` logs, without their times. */
function shown(write: (logger: Logger) => void): string {
  let text = '';
  const logger = createLogger('trace', { write: (part) => void (text += part) }, (line) =>
    printLogLine(line, PLAIN),
  );
  write(logger);
  return text.replaceAll(/^\d\d:\d\d:\d\d /gm, '');
}

it('a line has its message and its fields', () => {
  expect(
    shown((logger) => logger.info({ layer: 'sha256:1', spans: 3, reason: undefined }, 'layer indexed')),
  ).toBe('layer indexed layer=sha256:1 spans=3\n');
});

it('a warning has its level, its request and its error', () => {
  const err = new SpandrelError('BLOB_UNKNOWN', 'there is no such blob');
  expect(shown((logger) => logger.warn({ requestId: 'r1', err }, 'fill failed'))).toBe(
    'warn fill failed requestId=r1 error=there is no such blob\n',
  );
});

it('a defect has its stack on lines of its own', () => {
  const text = shown((logger) => logger.error({ err: new TypeError('x is undefined') }, 'a defect'));
  expect(text).toMatch(/^error a defect error=x is undefined\nTypeError: x is undefined\n {4}at /);
});

it('a request is one short line', () => {
  const request = { method: 'GET', path: '/v2/a', status: 404, code: 'NAME_UNKNOWN', bytes: 9, ms: 1.6 };
  const more = { requestId: 'r1', userAgent: 'curl', client: '::1', route: 'base' };
  expect(shown((logger) => logger.info({ ...request, ...more }, 'request'))).toBe(
    'GET /v2/a 404 NAME_UNKNOWN 9 bytes in 2 ms\n',
  );
});

it('a failed request has its cause', () => {
  const request = {
    method: 'GET',
    path: '/v2/a',
    status: 502,
    requestId: 'r1',
    err: new SpandrelError('UPSTREAM_UNREACHABLE', 'refused'),
  };
  expect(shown((logger) => logger.warn(request, 'request'))).toBe(
    'warn GET /v2/a 502 requestId=r1 error=refused\n',
  );
});

it('no line controls the terminal', () => {
  const odd = 'a\u001b[2J\u009b31m\u007f\u202e\nb';
  const err = Object.assign(new Error(odd), { stack: `Error: ${odd}` });
  const text = shown((logger) => logger.error({ path: odd, err, list: [odd] }, odd));
  expect(text).toMatch(/^[ -~\n]*$/);
  const request = { method: odd, path: odd, status: 200, source: odd };
  expect(shown((logger) => logger.info(request, 'request'))).toMatch(/^[ -~]*\n$/);
});
