import { readFile } from 'node:fs/promises';

import type { UpstreamAuth } from '../config/upstream-config.ts';
import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';

/**
 * What is configured for an upstream as a Basic `Authorization` value; `undefined` where it is used anonymously. A password
 * file is read each time, so that it can be exchanged while the proxy runs.
 * @throws SpandrelError UNAUTHORIZED if the password file cannot be read
 */
export async function readBasicCredentials(
  upstream: string,
  auth: UpstreamAuth,
): Promise<Secret | undefined> {
  if (auth.kind === 'anonymous') return undefined;
  const password =
    'password' in auth ? auth.password.reveal() : await readPassword(upstream, auth.passwordFile);
  return new Secret(`Basic ${Buffer.from(`${auth.username}:${password}`).toString('base64')}`);
}

async function readPassword(upstream: string, path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    throw new SpandrelError('UNAUTHORIZED', `upstream ${upstream}: its password file cannot be read`, {
      cause: error,
    });
  }
}
