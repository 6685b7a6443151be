import { createHmac } from 'node:crypto';

import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readNamedFile } from '../config/read-named-file.ts';
import { readReplicaToken } from './read-replica-token.ts';
import { MIN_KEY_CHARACTERS } from '../config/value-kinds.ts';
import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';

/**
 * The key that seals values in Redis: the configured one, else one that is derived from the replicas' token.
 * @throws SpandrelError CONFIG_INVALID for an invalid file
 */
export async function readSharedKey(
  { cache, replica }: Pick<Config, 'cache' | 'replica'>,
  read: ReadFile,
): Promise<Secret | undefined> {
  const { key, keyFile } = cache.redis;
  if (key !== undefined) return key;
  if (keyFile === undefined) {
    const token = await readReplicaToken(replica, read);
    return token && new Secret(createHmac('sha256', token.reveal()).update('cache.redis.key').digest('hex'));
  }
  const text = await readNamedFile('cache.redis.keyFile', keyFile, read);
  if (text.length < MIN_KEY_CHARACTERS)
    throw new SpandrelError(
      'CONFIG_INVALID',
      `cache.redis.keyFile: expected at least ${MIN_KEY_CHARACTERS} characters`,
    );
  return new Secret(text);
}
