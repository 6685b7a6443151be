import { RedisCache } from '../../src/cache/redis-cache.ts';
import { Secret } from '../../src/core/secret.ts';
import { Coordination } from '../../src/replicas/coordination.ts';
import { Members } from '../../src/replicas/members.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from './cleanup.ts';
import { collectingLogger } from './collected-output.ts';
import { REPLICA_TOKEN } from './replica-set.ts';

/** The key of the list of members in Redis. */
export const MEMBERS_KEY = 'spandrel:1:replicas';

/** A replica's view of the others. It has not joined them. */
export async function openMembers(
  redis: { readonly url: string },
  {
    token = REPLICA_TOKEN,
    now = Date.now,
    nowMs,
    events = new Events(collectingLogger()),
  }: {
    readonly token?: string;
    readonly now?: () => number;
    readonly nowMs?: () => number;
    readonly events?: Events;
  } = {},
): Promise<Members> {
  const cache = cleanup.use(
    new RedisCache({ url: new Secret(redis.url), cluster: false, ttlSeconds: 60, events }),
  );
  await cache.connected();
  const coordination = new Coordination(cache);
  const seal = new PeerSeal(new Secret(token), now);
  return cleanup.use(new Members({ coordination, seal, leases: () => 3, nowMs, events }));
}

/** URLs of those whom a replica sees. */
export function seenUrls(members: Members): string[] {
  return members.all.map(({ url }) => url).toSorted();
}
