import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readNamedFile } from '../config/read-named-file.ts';
import { MIN_KEY_CHARACTERS } from '../config/value-kinds.ts';
import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';

/**
 * The token that replicas share; `undefined` if none is configured.
 * @throws SpandrelError CONFIG_INVALID for an invalid token file
 */
export async function readReplicaToken(
  { token, tokenFile }: Pick<Config['replica'], 'token' | 'tokenFile'>,
  read: ReadFile,
): Promise<Secret | undefined> {
  if (tokenFile === undefined) return token;
  const text = await readNamedFile('replica.tokenFile', tokenFile, read);
  if (text.length < MIN_KEY_CHARACTERS)
    throw new SpandrelError(
      'CONFIG_INVALID',
      `replica.tokenFile: expected at least ${MIN_KEY_CHARACTERS} characters`,
    );
  return new Secret(text);
}
