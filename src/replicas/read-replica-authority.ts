import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readNamedFile } from '../config/read-named-file.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseCertificates } from '../core/parse-certificates.ts';

/**
 * The authority of the replicas' certificates as PEM text; `undefined` if none is configured.
 * @throws SpandrelError CONFIG_INVALID if its file is not PEM
 */
export async function readReplicaAuthority(
  { ca }: Pick<Config['replica'], 'ca'>,
  read: ReadFile,
): Promise<string | undefined> {
  if (ca === undefined) return undefined;
  const text = await readNamedFile('replica.ca', ca, read);
  try {
    parseCertificates(text);
  } catch (cause) {
    throw new SpandrelError('CONFIG_INVALID', `replica.ca: ${(cause as Error).message}`, { cause });
  }
  return text;
}
