import { randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync } from 'node:fs';

import { Secret } from '../../src/core/secret.ts';
import { collectedFile } from './collected-output.ts';

/** Shorter ones would be found in what is none. */
const MIN_LENGTH = 8;

/**
 * A secret that nothing else is like, begun with `start`. No output of the suite may have it; `name` is told
 * if one does.
 */
export function makeSecret(name: string, start = ''): string {
  return noteSecret(name, `${start}${randomBytes(12).toString('hex')}`);
}

/** Have the suite fail if this value is ever in what a proxy prints. @returns the value */
export function noteSecret(name: string, value: string): string {
  if (value.length < MIN_LENGTH) throw new Error(`${name}: a secret this short cannot be looked for`);
  const file = collectedFile('secrets');
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ name, value })}\n`);
  return value;
}

/** As {@link noteSecret}, of a PEM file with a private key. */
export function notePrivateKey(path: string): void {
  const [, firstLine = ''] = readFileSync(path, 'utf8').split('\n');
  noteSecret('private key', firstLine);
}

/** As {@link noteSecret}, of all secrets of a configuration; of a URL only the password counts. */
export function noteSecretsOf(value: unknown, name = 'configuration'): void {
  if (value instanceof Secret) {
    const text = value.reveal();
    const secret = URL.canParse(text) ? decodeURIComponent(new URL(text).password) : text;
    if (secret.length >= MIN_LENGTH) noteSecret(name, secret);
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, part] of Object.entries(value)) noteSecretsOf(part, `${name}.${key}`);
  }
}
