import { expect, it } from 'vitest';

import { createLogger } from '../../src/telemetry/logger.ts';

it('a log line has no control characters, and is JSON with the same values', () => {
  let written = '';
  const logger = createLogger('info', { write: (line) => void (written += line) });
  const path = 'a\u001b[2J\u009b31m\u007f\u202e\nb';
  logger.info({ path }, path);
  expect(written).toMatch(/^[ -~]*\n$/);
  expect(JSON.parse(written)).toMatchObject({ path, msg: path });
});
