import type { FastifyInstance } from 'fastify';

import type { Replicas } from '../../replicas/replicas.ts';
import { ADMIN_API } from './admin-api.ts';

export interface ReplicaRoutesDeps {
  /** `undefined` without `replica.url`. */
  readonly replicas: Replicas | undefined;
}

/** Fastify plugin: the replicas that share a Redis. */
export async function replicaRoutes(server: FastifyInstance, { replicas }: ReplicaRoutesDeps): Promise<void> {
  server.route({
    ...ADMIN_API.replicas,
    handler: async () => replicas?.describe() ?? { replicas: [], leases: [] },
  });
}
