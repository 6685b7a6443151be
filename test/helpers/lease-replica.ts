import { RedisCache } from '../../src/cache/redis-cache.ts';
import { Secret } from '../../src/core/secret.ts';
import { Coordination } from '../../src/replicas/coordination.ts';
import { Leases } from '../../src/replicas/leases.ts';
import { memberId } from '../../src/replicas/member.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from './cleanup.ts';
import { collectingLogger } from './collected-output.ts';

/** Before the names of leases in Redis. */
export const LEASE_PREFIX = 'spandrel:1:lease:group:';

/** A replica with a connection of its own to Redis, and nothing else. */
export interface LeaseReplica {
  readonly id: string;
  readonly redis: RedisCache;
  readonly leases: Leases;
}

export async function connectReplica(url: string, name: string, cluster = false): Promise<LeaseReplica> {
  const events = new Events(collectingLogger());
  const redis = cleanup.use(new RedisCache({ url: new Secret(url), cluster, ttlSeconds: 60, events }));
  await redis.connected();
  const id = memberId(name);
  return { id, redis, leases: leasesOf(redis, id) };
}

/** As a replica that has just started: it does not take Redis for lost. */
export function leasesOf(redis: RedisCache, id: string, group = 'group'): Leases {
  const coordination = new Coordination(redis);
  return new Leases({ coordination, self: () => id, group, ttlSeconds: 60 });
}
