import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex, isDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { fileErrorCode } from './store-fault.ts';

/** A complete blob as it was found on disk. */
export interface FoundBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Milliseconds of the epoch. */
  readonly usedAtMs: number;
}

const FORMAT = 'spandrel-store 1';

/**
 * Where things are below `storage.root`: `format` (version of this layout), `blobs/<algorithm>/<2 hex digits>/<hex>` (complete
 * blobs), `partial/` (blobs that are arriving).
 */
export class StoreLayout {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  blobPath(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#root, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  partialPath(name: string): string {
    return join(this.#root, 'partial', name);
  }

  /**
   * Make the folders, or take over those that are there. Partial files of an earlier process are removed: what of them had
   * arrived is not recorded, so their fills begin anew.
   * @throws SpandrelError STORE_FAILED if the store was written by a version with another layout
   */
  async prepare(): Promise<void> {
    const formatPath = join(this.#root, 'format');
    const format = await readFile(formatPath, 'utf8').catch((error: unknown) => {
      if (fileErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (format !== undefined && format.trim() !== FORMAT) {
      const found = JSON.stringify(format.trim().slice(0, 40));
      throw new SpandrelError(
        'STORE_FAILED',
        `the store ${this.#root} has the layout ${found}, this version needs "${FORMAT}": use another storage.root`,
      );
    }
    await mkdir(join(this.#root, 'blobs'), { recursive: true });
    await rm(join(this.#root, 'partial'), { recursive: true, force: true });
    await mkdir(join(this.#root, 'partial'));
    if (format === undefined) await writeFile(formatPath, `${FORMAT}\n`);
  }

  /** All complete blobs, least recently used first. Files that are no blobs are left alone. */
  async scan(): Promise<FoundBlob[]> {
    const found: FoundBlob[] = [];
    const blobs = join(this.#root, 'blobs');
    for (const algorithm of await readdir(blobs)) {
      for (const prefix of await readdir(join(blobs, algorithm))) {
        const folder = join(blobs, algorithm, prefix);
        const names = await readdir(folder);
        const inFolder = await Promise.all(
          names.map((name) => findBlob(`${algorithm}:${name}`, join(folder, name))),
        );
        for (const blob of inFolder) if (blob !== undefined) found.push(blob);
      }
    }
    return found.toSorted((a, b) => a.usedAtMs - b.usedAtMs);
  }
}

/** Make the names in the folder of `path` survive a power failure. */
export async function syncFolderOf(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function findBlob(digest: string, path: string): Promise<FoundBlob | undefined> {
  if (!isDigest(digest)) return undefined;
  const { size, atimeMs, mtimeMs } = await stat(path);
  return { digest, sizeBytes: size, usedAtMs: Math.max(atimeMs, mtimeMs) };
}
