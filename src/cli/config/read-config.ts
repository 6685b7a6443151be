import { lstat } from 'node:fs/promises';

import { configFiles, type ReadFile } from '../../config/config-files.ts';
import { NOTHING_WRITTEN, parseWrittenConfig, type WrittenConfig } from '../../config/parse-config.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { readSettledFile } from './read-settled-file.ts';

/** Used where no file is named; it may be missing then. */
const DEFAULT_FILE = 'config/spandrel.yaml';

export interface ConfigInput {
  /** As named on the command line. */
  readonly file: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A configuration with the bytes that it was read from. */
export interface ReadConfig extends WrittenConfig {
  /** Where the configuration file is, or would be. */
  readonly file: string;
  /** Of the configuration file and of those that it names: what is in them, or why that is not known. */
  readonly contents: ReadonlyMap<string, Buffer | Error>;
}

/**
 * The configuration file and the environment together, and what is in the files that they name, each when nobody is writing it.
 * @throws SpandrelError CONFIG_INVALID
 */
export async function readConfig({ file, environment }: ConfigInput): Promise<ReadConfig> {
  const path = file ?? DEFAULT_FILE;
  const bytes = await readConfigFile(path, file !== undefined);
  if (bytes?.length === 0) throw new SpandrelError('CONFIG_INVALID', `${path}: ${NOTHING_WRITTEN}`);
  const parsed = parseWrittenConfig({ yaml: bytes?.toString() ?? '', environment });
  const contents = new Map<string, Buffer | Error>();
  if (bytes !== undefined) contents.set(path, bytes);
  const named = new Set(configFiles(parsed.config));
  await Promise.all(
    Array.from(named, async (name) => {
      contents.set(name, await readSettledFile(name).catch((error: Error) => error));
    }),
  );
  return { ...parsed, file: path, contents };
}

/** Gives what has been read with the configuration, so that all of it is of one moment. */
export function fileReader({ contents }: Pick<ReadConfig, 'contents'>): ReadFile {
  return (path) => {
    const found = contents.get(path) ?? new Error(`${path} has not been read`);
    return found instanceof Error ? Promise.reject(found) : Promise.resolve(found);
  };
}

async function readConfigFile(path: string, isNamed: boolean): Promise<Buffer | undefined> {
  try {
    return await readSettledFile(path);
  } catch (error) {
    if (!isNamed && nodeErrorCode(error) === 'ENOENT' && !(await isLink(path))) return undefined;
    throw new SpandrelError('CONFIG_INVALID', `cannot read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** A link that leads nowhere is no missing file. */
async function isLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
}
