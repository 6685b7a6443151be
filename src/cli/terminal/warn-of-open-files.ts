import { stat } from 'node:fs/promises';

import type { Config } from '../../config/config-keys.ts';
import type { Logger } from '../../telemetry/logger.ts';

const READABLE_BY_OTHERS = 0o004;

/** Say which files that hold secrets every user of this machine can read. */
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
    // One that is missing is reported by whoever needs it.
    const mode = await stat(path).then(
      (found) => found.mode,
      () => 0,
    );
    if ((mode & READABLE_BY_OTHERS) !== 0)
      logger.warn({ path }, 'a file with secrets can be read by every user of this machine: chmod o-r');
  }
}

/** They may have come by the environment; then the file has none, and a warning about it does no harm. */
function holdsSecrets({ admin, cache, upstreams = [] }: Config): boolean {
  const isKept = admin.token !== undefined || cache.redis.key !== undefined;
  return isKept || upstreams.some(({ auth }) => 'password' in auth);
}
