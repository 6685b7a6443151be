import { Secret } from '../core/secret.ts';
import { type Config, CONFIG_KEYS, type ConfigPath } from './config-keys.ts';
import { valueAt } from './value-at.ts';

/** Keys whose values differ between two configurations. */
export function changedKeys(before: Config, after: Config): ConfigPath[] {
  return (Object.keys(CONFIG_KEYS) as ConfigPath[]).filter(
    (path) => fingerprint(before, path) !== fingerprint(after, path),
  );
}

/** Equal for equal values. Contains secrets in clear text: only for comparison. */
function fingerprint(config: Config, path: ConfigPath): string | undefined {
  return JSON.stringify(
    { value: valueAt(config, path) },
    function replace(this: Record<string, unknown>, name: string, shown: unknown) {
      const raw = this[name];
      return raw instanceof Secret ? raw.reveal() : shown;
    },
  );
}
