import type { IncomingMessage } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';

/**
 * Refuses what a client expects beyond `100-continue` (RFC 9110, section 10.1.1). HTTP/1.0 has no Expect: there it means nothing.
 * @throws SpandrelError EXPECTATION_FAILED
 */
export function checkExpectation({
  headers,
  httpVersion,
}: Pick<IncomingMessage, 'headers' | 'httpVersion'>): void {
  const { expect } = headers;
  if (expect === undefined || httpVersion === '1.0' || expect.trim().toLowerCase() === '100-continue') return;
  throw new SpandrelError('EXPECTATION_FAILED', 'the proxy meets no expectation but 100-continue');
}
