import { chmodSync, type Dirent, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

import { nodeErrorCode } from '../core/node-error-code.ts';

const OTHERS = 0o077;
const OWN_FOLDER = 0o700;
const OWN_FILE = 0o600;

/** A volume's root may be its provider's, with a folder in it for what a check of the file system finds. */
const NOT_OURS: ReadonlySet<string> = new Set(['EPERM', 'EACCES', 'EROFS']);

/**
 * Take from everybody but the owner what a folder holds: images may be private. Symbolic links are not followed. Blocks the event loop, as
 * looking through the store at its start does; 100,000 files take less than a second.
 * @returns how many files and folders were open to others, and how many of them still are, because they are not this user's
 */
export function tightenModes(root: string): { readonly tightened: number; readonly open: number } {
  const found = { tightened: 0, open: 0 };
  // The folder first: it hides all that is in it.
  tighten(realpathSync(root), OWN_FOLDER, found);
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
    if (entry.isDirectory()) {
      tighten(path, OWN_FOLDER, found);
      tightenBelow(path, found);
    } else if (entry.isFile()) tighten(path, OWN_FILE, found);
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

function tighten(path: string, mode: number, found: Found): void {
  if ((lstatSync(path).mode & OTHERS) === 0) return;
  try {
    chmodSync(path, mode);
    found.tightened++;
  } catch (error) {
    if (!NOT_OURS.has(nodeErrorCode(error))) throw error;
    found.open++;
  }
}
