import { stat } from 'node:fs/promises';

import { configFiles, credentialFiles } from '../../config/config-files.ts';
import { type Config, CONFIG_KEYS, type ConfigPath } from '../../config/config-keys.ts';
import type { WrittenConfig } from '../../config/parse-config.ts';
import { valueAt } from '../../config/value-at.ts';
import { SECRET_KINDS } from '../../config/value-kinds.ts';
import { Secret } from '../../core/secret.ts';
import type { Logger } from '../../telemetry/logger.ts';

const READABLE_BY_OTHERS = 0o004;

/** Logs files with secrets that every user of this machine can read, and missing files of upstreams. */
export async function warnOfOpenFiles(
  { config, inFile, file }: WrittenConfig & { readonly file: string },
  logger: Logger,
): Promise<void> {
  for (const { key, path, isSecret } of configFiles(config))
    if (isSecret) await warnIfOpen(path, [key], logger);
  for (const { key, path } of (config.upstreams ?? []).flatMap(credentialFiles))
    await warnIfOpen(path, [key], logger, (err) =>
      logger.warn({ key, path, err }, 'requests to this upstream fail until this file can be read'),
    );
  const secrets = secretsIn(config, inFile);
  if (secrets.length > 0) await warnIfOpen(file, secrets, logger);
}

/** @param onMissing without it, the reader of the file reports that it cannot be read */
async function warnIfOpen(
  path: string,
  secrets: readonly string[],
  logger: Logger,
  onMissing: (error: unknown) => void = () => undefined,
): Promise<void> {
  try {
    const { mode } = await stat(path);
    if ((mode & READABLE_BY_OTHERS) !== 0)
      logger.warn(
        { path, secrets },
        'a file with secrets can be read by every user of this machine: chmod o-r',
      );
  } catch (error) {
    onMissing(error);
  }
}

/** The secrets that the configuration file has, by key. */
function secretsIn(config: Config, inFile: ReadonlySet<ConfigPath>): string[] {
  const keys = [...inFile].filter((key) => {
    const value = valueAt(config, key);
    if (!SECRET_KINDS.has(CONFIG_KEYS[key].kind) || !(value instanceof Secret)) return false;
    return key !== 'cache.redis.url' || hasPassword(value);
  });
  const upstreams = inFile.has('upstreams') ? (config.upstreams ?? []) : [];
  const passwords = upstreams.flatMap(({ name, auth, proxy }) => [
    ...('password' in auth ? [`upstreams: auth.password of ${name}`] : []),
    ...(proxy?.authorization === undefined ? [] : [`upstreams: proxy of ${name}`]),
  ]);
  return [...keys, ...passwords];
}

function hasPassword(url: Secret): boolean {
  return new URL(url.reveal()).password !== '';
}
