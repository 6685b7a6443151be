import { proxyWith, type ProxyOptions } from './proxy-with.ts';
import type { RunningApp } from './running-app.ts';
import { makeSecret } from './secrets.ts';

export const REPLICA_TOKEN = makeSecret('token of replicas');

/** Keys of a replica that shares `redis` with others. */
export function replicaEnvironment(redis: { readonly url: string }): Record<string, string> {
  return {
    SPANDREL_CACHE_REDIS_URL: redis.url,
    SPANDREL_REPLICA_URL: 'http://127.0.0.1:0',
    SPANDREL_REPLICA_TOKEN: REPLICA_TOKEN,
    // Fills in several requests, also of small blobs.
    SPANDREL_FILL_CHUNK_BYTES: '1MiB',
  };
}

/** Proxies in this process that share `redis` and the upstream `up`, and know each other. */
export async function startReplicas(
  count: number,
  upstream: { readonly url: string },
  redis: { readonly url: string },
  { environment, ...options }: Omit<ProxyOptions, 'root'> = {},
): Promise<RunningApp[]> {
  const all: RunningApp[] = [];
  for (let started = 0; started < count; started++) {
    const own = { ...replicaEnvironment(redis), ...environment };
    all.push(
      await proxyWith(upstream, {
        isFollower: started > 0,
        ...options,
        environment: own,
      }),
    );
  }
  return all;
}
