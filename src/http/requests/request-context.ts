import type { IncomingHttpHeaders } from 'node:http';

import type { RegistryPath } from './registry-path.ts';

/** One request to the registry listener, parsed and admitted. */
export interface RequestContext {
  readonly method: 'GET' | 'HEAD';
  readonly path: RegistryPath;
  readonly query: URLSearchParams;
  /** The registry in `?ns=`, as the client wrote it. */
  readonly namespace: string | undefined;
  readonly headers: IncomingHttpHeaders;
  /** Host that the client addresses, with its port. */
  readonly host: string | undefined;
  /** The request comes from another replica, and is one for a blob. */
  readonly isFromReplica: boolean;
  /** Address of the client. */
  readonly client: string;
  /** As `connectionNumber`. */
  readonly connection: number;
  /** Path and query as the client wrote them, for links to further pages. */
  readonly url: string;
  /** Aborted when the client aborts, or would give up soon. */
  readonly signal: AbortSignal;
}
