import type { ReadFile } from '../../config/config-files.ts';
import type { Config } from '../../config/config-keys.ts';
import type { AdminRules } from './admin-guard.ts';
import { readAdminToken } from './read-admin-token.ts';
import { PageGuard } from './page-guard.ts';

/** The rules that `admin` configures. @throws SpandrelError CONFIG_INVALID if its token file is invalid */
export async function createAdminRules(
  { admin }: Pick<Config, 'admin'>,
  readFile: ReadFile,
): Promise<AdminRules> {
  return {
    token: await readAdminToken(admin, readFile),
    takesCertificates: admin.tls.clientCa !== undefined,
    pages: new PageGuard(admin),
  };
}
