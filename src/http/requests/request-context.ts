import type { IncomingHttpHeaders } from 'node:http';

import type { Target } from '../../upstream/target.ts';

/** One request to the registry listener, as handlers see it. */
export interface RequestContext {
  readonly method: 'GET' | 'HEAD';
  readonly target: Target;
  /** Address of the client. */
  readonly client: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** Path and query as the client wrote them, for links to further pages. */
  readonly url: string;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}
