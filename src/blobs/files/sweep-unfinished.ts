import { glob, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { BLOCK_BYTES } from './store-layout.ts';

/** Most reasons that are logged for files that cannot be removed. */
const MAX_FAILURES = 5;

/** Unfinished files, by folder of a store, and temporary files of earlier releases. */
const UNFINISHED = [
  '*.tmp',
  'indexes/*/tmp/*',
  'manifests/tmp/*',
  'tags/tmp/*',
  'origins/tmp/*',
  'indexes/layers/*/*/*.tmp',
  'indexes/layers/*/*/*.tmp.windows',
];

/** Folder of the unfinished files of `folder`. */
export function unfinishedFolderOf(folder: string): string {
  return join(folder, 'tmp');
}

/**
 * Removes unfinished files of earlier processes, and logs how many. The caller owns the store and has not
 * begun to write.
 */
export async function sweepUnfinished(
  root: string,
  leftovers: readonly string[],
  logger: Logger,
): Promise<void> {
  const paths = new Set(leftovers);
  for await (const path of glob(UNFINISHED, { cwd: root })) paths.add(join(root, path));
  const sizes: number[] = [];
  const failures: string[] = [];
  for (const path of paths) {
    try {
      const size = await removeFile(path);
      if (size !== undefined) sizes.push(size);
    } catch (error) {
      failures.push(String(error));
    }
  }
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  if (sizes.length > 0)
    logger.info({ root, files: sizes.length, bytes }, 'removed unfinished files of an earlier process');
  if (failures.length > 0)
    logger.warn(
      { root, files: failures.length, errors: failures.slice(0, MAX_FAILURES) },
      'unfinished files of an earlier process cannot be removed',
    );
}

/** @returns bytes that the file took on disk; undefined if there was none */
async function removeFile(path: string): Promise<number | undefined> {
  try {
    const { size, blocks } = await stat(path);
    await rm(path, { recursive: true });
    return Math.min(size, blocks * BLOCK_BYTES);
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
