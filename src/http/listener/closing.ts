import type { FastifyInstance } from 'fastify';

import { SpandrelError } from '../../core/errors.ts';

/**
 * Knows whether a server is being closed. A connection that was busy when the close began can still bring
 * requests. Fastify would respond to them with an error of its own shape (`return503OnClosing`), so it is
 * told not to.
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
