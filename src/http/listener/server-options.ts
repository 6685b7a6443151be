import type { RequestListener, Server } from 'node:http';

import type { RawServerDefault } from 'fastify';

import { createNodeServer, type ServerLimits } from './create-node-server.ts';
import type { TlsMaterial } from './tls-material.ts';

/** Options that make fastify use a server of {@link createNodeServer}. */
export function serverOptions({
  limits,
  tls,
}: {
  readonly limits: ServerLimits;
  readonly tls: TlsMaterial | undefined;
}): {
  readonly serverFactory: (handler: RequestListener) => RawServerDefault;
  readonly return503OnClosing: boolean;
} {
  return {
    // Fastify calls only methods that both kinds of server have.
    serverFactory: (handler) => createNodeServer(handler, limits, tls) as Server,
    // {@link Closing} responds with an error of the table.
    return503OnClosing: false,
    // Only sets the scheme of printed addresses: `serverFactory` makes the server.
    ...(tls === undefined ? {} : { https: {} }),
  };
}
