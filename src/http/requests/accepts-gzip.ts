import Negotiator from 'negotiator';

import { gzipNames } from './accepts-coding.ts';
import type { RequestContext } from './request-context.ts';

/** Whether a whole body may be sent with gzip. */
export function acceptsGzip({ method, headers }: Pick<RequestContext, 'method' | 'headers'>): boolean {
  // The encoded form has other positions, so a range is one of the plain form.
  if (method === 'GET' && headers.range !== undefined) return false;
  return new Negotiator({ headers }).encodings([...gzipNames(headers)]).length > 0;
}
