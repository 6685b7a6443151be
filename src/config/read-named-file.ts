import { SpandrelError } from '../core/errors.ts';
import type { ReadFile } from './config-files.ts';

/**
 * The text of the file that configuration key `key` names, without white space around it.
 * @throws SpandrelError CONFIG_INVALID if it cannot be read
 */
export async function readNamedFile(key: string, path: string, read: ReadFile): Promise<string> {
  try {
    return (await read(path)).toString().trim();
  } catch (cause) {
    throw new SpandrelError('CONFIG_INVALID', `${key}: ${(cause as Error).message}`, { cause });
  }
}
