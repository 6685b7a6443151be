import { lstat } from 'node:fs/promises';

import { configFiles, type ReadFile } from '../../config/config-files.ts';
import type { Config } from '../../config/config-keys.ts';
import {
  NOTHING_WRITTEN,
  parseConfig,
  parseWrittenConfig,
  type WrittenConfig,
} from '../../config/parse-config.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { readSettledFile } from './read-settled-file.ts';

/** Default path; this file may be missing. */
const DEFAULT_FILE = 'config/spandrel.yaml';

export interface ConfigInput {
  /** Path from the command line. */
  readonly file: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A configuration and the contents of its files. */
export interface ReadConfig extends WrittenConfig {
  /** Path of the configuration file, which may be missing. */
  readonly file: string;
  /**
   * By path, for the configuration file and the files that it names: the content, or the error of reading it.
   */
  readonly contents: ReadonlyMap<string, Buffer | Error>;
}

/**
 * Reads the configuration from its file and the environment, and the files that it names, each when it is not
 * being written.
 * @throws SpandrelError CONFIG_INVALID
 */
export async function readConfig({ file, environment }: ConfigInput): Promise<ReadConfig> {
  const path = file ?? DEFAULT_FILE;
  const bytes = await readConfigFile(path, file !== undefined);
  if (bytes?.length === 0) throw new SpandrelError('CONFIG_INVALID', `${path}: ${NOTHING_WRITTEN}`);
  const parsed = parseWrittenConfig({ yaml: bytes?.toString() ?? '', environment });
  const contents = new Map<string, Buffer | Error>();
  if (bytes !== undefined) contents.set(path, bytes);
  const named = new Set(configFiles(parsed.config).map((named) => named.path));
  await Promise.all(
    Array.from(named, async (name) => {
      contents.set(name, await readSettledFile(name).catch((error: Error) => error));
    }),
  );
  return { ...parsed, file: path, contents };
}

/**
 * As {@link readConfig}, for a file that the command line names.
 * @throws UsageError if it cannot be read; SpandrelError CONFIG_INVALID
 */
export async function readGivenConfig(input: ConfigInput): Promise<ReadConfig> {
  try {
    return await readConfig(input);
  } catch (error) {
    if (isSpandrelError(error, 'CONFIG_INVALID') && error.cause !== undefined)
      throw new UsageError(error.message);
    throw error;
  }
}

/**
 * The configuration of the environment, and of the file that the command line names, if it names one: the
 * default file is that of a proxy.
 * @throws as {@link readGivenConfig}
 */
export async function configOfCommand({ file, environment }: ConfigInput): Promise<Config> {
  if (file === undefined) return parseConfig({ yaml: '', environment });
  return (await readGivenConfig({ file, environment })).config;
}

/** Reads from the contents of a configuration, so that all of it is of one moment. */
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

/** A dangling link is an error, not a missing file. */
async function isLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
}
