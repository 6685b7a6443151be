import { type Config, CONFIG_KEYS, type ConfigPath } from './config-keys.ts';
import type { UpstreamConfig } from './upstream-config.ts';
import { valueAt } from './value-at.ts';
import { filePath, secretFile, type ValueKind } from './value-kinds.ts';

/**
 * Reads a file that the configuration names. @throws Error whose message says why it cannot, without the key
 */
export type ReadFile = (path: string) => Promise<Buffer>;

/** A file that the configuration names. */
export interface NamedFile<K extends string = string> {
  /** The key, for messages. */
  readonly key: K;
  readonly path: string;
  /** Whether only the proxy should be able to read it. */
  readonly isSecret: boolean;
}

/**
 * The files that keys of the table name. They are read with the configuration, and a running proxy watches
 * them.
 */
export function configFiles(config: Config): NamedFile<ConfigPath>[] {
  return (Object.keys(CONFIG_KEYS) as ConfigPath[]).flatMap((key) => {
    const kind: ValueKind<unknown> = CONFIG_KEYS[key].kind;
    const path = valueAt(config, key);
    const isNamed = (kind === filePath || kind === secretFile) && typeof path === 'string';
    return isNamed ? [{ key, path, isSecret: kind === secretFile }] : [];
  });
}

/** The files with the credentials of an upstream. Its client reads them when it needs them. */
export function credentialFiles({ name, key, auth }: UpstreamConfig): NamedFile[] {
  const files = [
    { field: 'key', path: key },
    { field: 'auth.passwordFile', path: 'passwordFile' in auth ? auth.passwordFile : undefined },
    { field: 'auth.path', path: 'path' in auth ? auth.path : undefined },
  ];
  return files.flatMap(({ field, path }) =>
    path === undefined ? [] : [{ key: `upstreams: ${field} of ${name}`, path, isSecret: true }],
  );
}
