import { RedisCache } from '../../src/cache/redis-cache.ts';
import { Secret } from '../../src/core/secret.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from './cleanup.ts';
import { collectingLogger } from './collected-output.ts';
import { makeSecret } from './secrets.ts';

const KEY = makeSecret('key of the shared Redis');

/** A connection of its own to the Redis that replicas share, with a key or none. It ends with the test. */
export async function openCache(
  { url }: { readonly url: string },
  { hasKey = true, cluster = false, logger = collectingLogger(), deadConnectionMs = 10_000 } = {},
): Promise<RedisCache> {
  const key = hasKey ? new Secret(KEY) : undefined;
  const events = new Events(logger);
  const cache = cleanup.use(
    new RedisCache({ url: new Secret(url), cluster, ttlSeconds: 86_400, key, deadConnectionMs, events }),
  );
  await cache.connected();
  return cache;
}
