import { chmodSync, type Dirent, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

import { nodeErrorCode } from '../../core/node-error-code.ts';

const OTHERS = 0o077;
const OWNER = 0o700;

/** Errors for files of another user: the root of a volume, its `lost+found`. */
const NOT_OURS: ReadonlySet<string> = new Set(['EPERM', 'EACCES', 'EROFS']);

/**
 * Removes the permissions of group and others from a folder and all its content, because images may be
 * private. Keeps those of the owner. Does not follow symbolic links. Blocks the event loop; 100,000 files
 * take less than a second.
 * @returns `tightened`: number of files and folders that were open to others; `open`: number that still are,
 * because another user owns them
 */
export function tightenModes(root: string): { readonly tightened: number; readonly open: number } {
  const found = { tightened: 0, open: 0 };
  // The folder first: it closes all its content.
  tighten(realpathSync(root), found);
  tightenBelow(root, found);
  return found;
}

interface Found {
  tightened: number;
  open: number;
}

function tightenBelow(folder: string, found: Found): void {
  for (const entry of entriesOf(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() || entry.isFile()) tighten(path, found);
    if (entry.isDirectory()) tightenBelow(path, found);
  }
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (NOT_OURS.has(nodeErrorCode(error))) return [];
    throw error;
  }
}

function tighten(path: string, found: Found): void {
  const { mode } = lstatSync(path);
  if ((mode & OTHERS) === 0) return;
  try {
    chmodSync(path, mode & OWNER);
    found.tightened++;
  } catch (error) {
    if (!NOT_OURS.has(nodeErrorCode(error))) throw error;
    found.open++;
  }
}
