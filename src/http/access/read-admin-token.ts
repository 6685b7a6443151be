import { readFile } from 'node:fs/promises';

import type { ReadFile } from '../../config/config-files.ts';
import type { Config } from '../../config/config-keys.ts';
import { readNamedFile } from '../../config/read-named-file.ts';
import { SpandrelError } from '../../core/errors.ts';
import { Secret } from '../../core/secret.ts';

/**
 * The token of the admin listener; `undefined` if none is configured.
 * @throws SpandrelError CONFIG_INVALID if its file cannot be read or is not a token
 */
export async function readAdminToken(
  { token, tokenFile }: Pick<Config['admin'], 'token' | 'tokenFile'>,
  read: ReadFile = readFile,
): Promise<Secret | undefined> {
  if (tokenFile === undefined) return token;
  const text = await readNamedFile('admin.tokenFile', tokenFile, read);
  if (text === '' || /\s/.test(text))
    throw new SpandrelError(
      'CONFIG_INVALID',
      'admin.tokenFile: expected a token in one line, without spaces',
    );
  return new Secret(text);
}
