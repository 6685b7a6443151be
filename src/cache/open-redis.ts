import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readNamedFile } from '../config/read-named-file.ts';
import { Secret } from '../core/secret.ts';
import type { Events } from '../telemetry/events.ts';
import { readSharedKey } from './read-shared-key.ts';
import { RedisCache } from './redis-cache.ts';

/**
 * Opens the shared cache if it is configured, and waits for its first connection.
 * @throws SpandrelError CONFIG_INVALID if a file cannot be read, or has no key
 */
export async function openRedis(
  config: Config,
  read: ReadFile,
  events: Events,
): Promise<RedisCache | undefined> {
  const { url, cluster, ttlSeconds, ca, passwordFile } = config.cache.redis;
  if (url === undefined) return undefined;
  const password =
    passwordFile === undefined
      ? undefined
      : new Secret(await readNamedFile('cache.redis.passwordFile', passwordFile, read));
  const authority = ca === undefined ? undefined : await readNamedFile('cache.redis.ca', ca, read);
  const key = await readSharedKey(config, read);
  const redis = new RedisCache({ url, password, cluster, ttlSeconds, ca: authority, key, events });
  await redis.connected();
  return redis;
}
