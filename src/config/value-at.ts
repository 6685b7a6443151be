import type { Config, ConfigPath } from './config-keys.ts';

/** The value of a key. */
export function valueAt(config: Config, path: ConfigPath): unknown {
  let value: unknown = config;
  for (const name of path.split('.')) value = (value as Readonly<Record<string, unknown>>)[name];
  return value;
}
