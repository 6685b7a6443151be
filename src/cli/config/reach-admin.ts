import { readAdminToken } from '../../http/access/read-admin-token.ts';
import { configOfCommand } from './read-config.ts';
import type { Flags } from '../terminal/command-help.ts';
import { parseUrlFlag } from '../terminal/parse-url-flag.ts';
import { type ReachedListener, reachListener } from '../terminal/reach-listener.ts';

/** Flags of commands that use the admin API. */
export const ADMIN_FLAGS = {
  admin: {
    type: 'string',
    value: 'URL',
    about: 'admin listener of the proxy (default: as configured, else http://127.0.0.1:5001)',
  },
  config: {
    type: 'string',
    value: 'FILE',
    about: 'configuration file with the address and the token of the admin listener',
  },
} satisfies Flags;

/** Values of {@link ADMIN_FLAGS}. */
export interface AdminValues {
  readonly admin?: string | undefined;
  readonly config?: string | undefined;
}

/** The admin listener that a command is to use. */
export interface ReachedAdmin extends ReachedListener {
  /** `admin.token` */
  readonly token: string | undefined;
}

/** @throws UsageError for a wrong URL; SpandrelError CONFIG_INVALID */
export async function reachAdmin({ admin, config: file }: AdminValues): Promise<ReachedAdmin> {
  const { admin: config } = await configOfCommand({ file, environment: process.env });
  const listener =
    admin === undefined ? await reachListener(config) : { url: parseUrlFlag('--admin', admin), send: fetch };
  const token = await readAdminToken(config);
  return { ...listener, token: token?.reveal() };
}
