import { stat } from 'node:fs/promises';

import type { Config } from '../../config/config-keys.ts';
import type { Logger } from '../../telemetry/logger.ts';

const READABLE_BY_OTHERS = 0o004;

/** Logs files with secrets that every user of this machine can read. */
export async function warnOfOpenFiles(config: Config, file: string, logger: Logger): Promise<void> {
  const { access, admin, cache, listen, upstreams = [] } = config;
  const paths = [
    listen.tls.key,
    admin.tls.key,
    admin.tokenFile,
    cache.redis.keyFile,
    access.htpasswdFile,
    ...upstreams.map(({ auth }) => ('passwordFile' in auth ? auth.passwordFile : undefined)),
    ...(holdsSecrets(config) ? [file] : []),
  ];
  for (const path of paths) {
    if (path === undefined) continue;
    // The reader of the file reports it if it is missing.
    const mode = await stat(path).then(
      (found) => found.mode,
      () => 0,
    );
    if ((mode & READABLE_BY_OTHERS) !== 0)
      logger.warn({ path }, 'a file with secrets can be read by every user of this machine: chmod o-r');
  }
}

/**
 * Whether the configuration has secrets. They may come from the environment; a needless warning does no harm.
 */
function holdsSecrets({ admin, cache, upstreams = [] }: Config): boolean {
  const isKept = admin.token !== undefined || cache.redis.key !== undefined;
  return isKept || upstreams.some(({ auth }) => 'password' in auth);
}
