import { readFileSync } from 'node:fs';

/** Version of the package that this code is a part of. Reads a file. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
