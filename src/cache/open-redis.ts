import { readFile } from 'node:fs/promises';

import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import type { Events } from '../telemetry/events.ts';
import { readSharedKey } from './read-shared-key.ts';
import { RedisCache } from './redis-cache.ts';

/**
 * Opens the shared cache if it is configured, and waits for its first connection.
 * @throws SpandrelError CONFIG_INVALID for an invalid key file
 */
export async function openRedis(
  config: Config,
  read: ReadFile,
  events: Events,
): Promise<RedisCache | undefined> {
  const { url, cluster, ttlSeconds, ca } = config.cache.redis;
  if (url === undefined) return undefined;
  const authority = ca === undefined ? undefined : await readFile(ca, 'utf8');
  const key = await readSharedKey(config.cache.redis, read);
  const redis = new RedisCache({ url, cluster, ttlSeconds, ca: authority, key, events });
  await redis.connected();
  return redis;
}
