import type { Config } from './config-keys.ts';

/** The bytes of a file that the configuration names. @throws Error that says why there are none; it names no key */
export type ReadFile = (path: string) => Promise<Buffer>;

/** Paths of the files that a running proxy reads again when they change. */
export function configFiles({ access, admin, listen }: Config): string[] {
  const named = [
    access.htpasswdFile,
    admin.tokenFile,
    ...Object.values(admin.tls),
    ...Object.values(listen.tls),
  ];
  return named.filter((path) => path !== undefined);
}
