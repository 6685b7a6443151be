import type { FastifyInstance } from 'fastify';

import type { Config } from '../../config/config-keys.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { listenOn } from './listen-on.ts';
import type { Logger } from '../../telemetry/logger.ts';

/** Starts both listeners. @returns their URLs. @throws SpandrelError LISTEN_FAILED */
export async function openServers(
  { registry, admin }: { readonly registry: FastifyInstance; readonly admin: FastifyInstance },
  config: Pick<Config, 'listen' | 'admin' | 'limits'>,
  logger: Logger,
): Promise<{ registryUrl: string; adminUrl: string }> {
  const { host, port } = config.listen;
  // A client whose connection overflows the system's queue retries only after a second.
  const backlog = config.limits.maxConnections;
  const registryUrl = await listenOn(registry, 'listen', { host, port, backlog });
  const { token, tokenFile, host: adminHost } = config.admin;
  if (!isLoopback(adminHost) && token === undefined && tokenFile === undefined)
    logger.warn(
      { host: adminHost },
      'the admin API is reachable from other machines and admin.token is not set: it refuses them',
    );
  const adminUrl = await listenOn(admin, 'admin', { host: adminHost, port: config.admin.port });
  return { registryUrl, adminUrl };
}
