import type { FastifyInstance } from 'fastify';

import { describeProcess } from '../../blobs/files/store-lock.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { ListenerName } from './connections.ts';
import { findPortHolder } from './find-port-holder.ts';

interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly backlog?: number;
}

/**
 * Opens a listener. Returns its URL.
 * @throws SpandrelError LISTEN_FAILED, with the setting, who has the port, and the way out
 */
export async function listenOn(
  server: FastifyInstance,
  listener: ListenerName,
  address: ListenAddress,
): Promise<string> {
  try {
    return await server.listen(address);
  } catch (error) {
    const why = await explain(listener, address, error);
    throw new SpandrelError('LISTEN_FAILED', why, { cause: error });
  }
}

async function explain(
  listener: ListenerName,
  { host, port }: ListenAddress,
  error: unknown,
): Promise<string> {
  const variable = `SPANDREL_${listener.toUpperCase()}`;
  switch (nodeErrorCode(error)) {
    case 'EADDRINUSE': {
      const pid = await findPortHolder(port);
      const holder =
        pid === undefined ? 'by another process' : `by process ${pid}${await describeProcess(pid)}`;
      return (
        `${listener}.port: port ${port} of ${host} is taken ${holder}: stop it, or set another port ` +
        `(${variable}_PORT)`
      );
    }
    case 'EACCES':
      return (
        `${listener}.port: this user may not open port ${port}: set one from 1024 on (${variable}_PORT), ` +
        'or grant CAP_NET_BIND_SERVICE'
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${listener}.host: ${host} is not an address of this machine: set another (${variable}_HOST)`;
    default:
      return `${listener}: ${error instanceof Error ? error.message : String(error)}`;
  }
}
