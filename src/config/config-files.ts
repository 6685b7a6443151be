import type { Config } from './config-keys.ts';

/**
 * Reads a file that the configuration names. @throws Error whose message says why it cannot, without the key
 */
export type ReadFile = (path: string) => Promise<Buffer>;

/** Paths of the files that a running proxy watches. */
export function configFiles({ access, admin, listen }: Config): string[] {
  const named = [
    access.htpasswdFile,
    admin.tokenFile,
    ...Object.values(admin.tls),
    ...Object.values(listen.tls),
  ];
  return named.filter((path) => path !== undefined);
}
