import type { FastifyInstance } from 'fastify';

import type { Connections, ListenerName } from './connections.ts';

export interface OpenServers {
  readonly registry: Pick<FastifyInstance, 'close'>;
  readonly admin: Pick<FastifyInstance, 'close'>;
  readonly connections: Readonly<Record<ListenerName, Connections>>;
  /** What the servers use. */
  readonly owned: AsyncDisposable;
  /** `shutdown.graceMs` */
  readonly graceMs: number;
}

/**
 * Closes both listeners and what they use. The registry stops accepting first; its running responses end, or
 * are cut off after the grace period. The admin listener responds until the end.
 */
export async function closeServers({
  registry,
  admin,
  connections,
  owned,
  graceMs,
}: OpenServers): Promise<void> {
  await using ending = new AsyncDisposableStack();
  ending.defer(async () => {
    connections.admin.destroyAll();
    await admin.close();
  });
  ending.use(owned);
  const cut = setTimeout(() => connections.listen.destroyAll(), graceMs);
  ending.defer(() => clearTimeout(cut));
  await registry.close();
}
