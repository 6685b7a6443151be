import type { FastifyInstance } from 'fastify';

import { SpandrelError } from '../../core/errors.ts';

/**
 * Refuses requests once a server is being closed: a busy connection can still bring some. Fastify's own
 * response to them (`return503OnClosing`) is no OCI error.
 */
export class Closing {
  #hasBegun = false;

  watch(server: FastifyInstance): void {
    server.addHook('preClose', async () => {
      this.#hasBegun = true;
    });
  }

  /** @throws SpandrelError SHUTTING_DOWN once the close has begun */
  admit(): void {
    if (this.#hasBegun) throw new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped');
  }
}
