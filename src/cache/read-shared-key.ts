import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readNamedFile } from '../config/read-named-file.ts';
import { MIN_KEY_CHARACTERS } from '../config/value-kinds.ts';
import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';

/**
 * The configured key that seals values in Redis.
 * @throws SpandrelError CONFIG_INVALID for an invalid key file
 */
export async function readSharedKey(
  { key, keyFile }: Pick<Config['cache']['redis'], 'key' | 'keyFile'>,
  read: ReadFile,
): Promise<Secret | undefined> {
  if (keyFile === undefined) return key;
  const text = await readNamedFile('cache.redis.keyFile', keyFile, read);
  if (text.length < MIN_KEY_CHARACTERS)
    throw new SpandrelError(
      'CONFIG_INVALID',
      `cache.redis.keyFile: expected at least ${MIN_KEY_CHARACTERS} characters`,
    );
  return new Secret(text);
}
