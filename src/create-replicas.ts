import type { RedisCache } from './cache/redis-cache.ts';
import type { ReadFile } from './config/config-files.ts';
import type { Config } from './config/config-keys.ts';
import { readReplicaToken } from './cache/read-replica-token.ts';
import { PeerAccess } from './http/access/peer-access.ts';
import { createPeerConnector, peerTlsOf } from './replicas/create-peer-connector.ts';
import { PeerSeal } from './replicas/peer-seal.ts';
import { readReplicaAuthority } from './replicas/read-replica-authority.ts';
import { Replicas } from './replicas/replicas.ts';
import type { Events } from './telemetry/events.ts';

export interface CreateReplicasDeps {
  /** Disposes of the replicas. */
  readonly opening: AsyncDisposableStack;
  readonly redis: RedisCache | undefined;
  readonly readNamedFile: ReadFile;
  readonly events: Events;
}

export interface CreatedReplicas {
  readonly replicas: Replicas | undefined;
  readonly peerAccess: PeerAccess | undefined;
}

/**
 * Creates what this replica and others do together, if `replica.url` is set. It has not joined them yet.
 * @throws SpandrelError CONFIG_INVALID for an invalid file of the token or the authority
 */
export async function createReplicas(
  { replica, cache, listen, upstreams = [] }: Pick<Config, 'replica' | 'cache' | 'listen' | 'upstreams'>,
  { opening, redis, readNamedFile, events }: CreateReplicasDeps,
): Promise<CreatedReplicas> {
  const { url } = replica;
  const token = await readReplicaToken(replica, readNamedFile);
  if (url === undefined || token === undefined || redis === undefined)
    return { replicas: undefined, peerAccess: undefined };
  await readReplicaAuthority(replica, readNamedFile);
  const prefixes = new Map(upstreams.map(({ name, repositoryPrefix }) => [name, repositoryPrefix]));
  const seal = new PeerSeal(token);
  const replicas = opening.use(
    new Replicas({
      redis,
      seal,
      url,
      ttlSeconds: cache.redis.ttlSeconds,
      connect: createPeerConnector(peerTlsOf({ replica, listen }), readNamedFile),
      requestedName: (upstream, repository) => withoutPrefix(repository, prefixes.get(upstream)),
      events,
    }),
  );
  return { replicas, peerAccess: new PeerAccess({ seal, self: () => replicas.id }) };
}

/** Requests leave the prefix out that the proxy puts before the names of an upstream's repositories. */
function withoutPrefix(repository: string, prefix: string | undefined): string {
  return prefix !== undefined && repository.startsWith(`${prefix}/`)
    ? repository.slice(prefix.length + 1)
    : repository;
}
