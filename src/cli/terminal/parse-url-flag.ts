import { UsageError } from './usage-error.ts';

/** @param flag with its dashes. @throws UsageError */
export function parseUrlFlag(flag: string, text: string): URL {
  if (!URL.canParse(text) || !/^https?:/.test(text))
    throw new UsageError(`${flag}: expected http(s)://host:port, got ${text}`);
  return new URL(text);
}
