import type { IncomingMessage } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';

/**
 * Refuse an `Expect` other than `100-continue` (RFC 9110, section 10.1.1). HTTP/1.0 ignores the header.
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
