import Negotiator from 'negotiator';

import type { RequestContext } from './request-context.ts';

/** Whether a whole body may be sent with gzip. `x-gzip` is the same (RFC 9110, section 8.4.1.3). */
export function acceptsGzip({ method, headers }: Pick<RequestContext, 'method' | 'headers'>): boolean {
  // The encoded form has other positions, so a range is one of the plain form.
  if (method === 'GET' && headers.range !== undefined) return false;
  return new Negotiator({ headers }).encodings(['gzip', 'x-gzip']).length > 0;
}
