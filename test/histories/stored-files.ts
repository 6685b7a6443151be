import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { appendFile, open, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';

import { sha256 } from './content.ts';
import type { Action, StoredFolder } from './history.ts';

type Damage = Pick<Extract<Action, { do: 'damage' }>, 'share' | 'reach' | 'how'>;

/** Not damaged: files that are being written. */
const UNFINISHED = /(^|\/)tmp\/|probe-/;

/** The files of a replica's store on its disk. */
export class StoredFiles {
  readonly root: string;

  /** @param root `storage.root` */
  constructor(root: string) {
    this.root = root;
  }

  /** Paths below a folder; empty if it does not exist. */
  in(folder: string): string[] {
    const top = join(this.root, folder);
    if (!existsSync(top)) return [];
    return readdirSync(top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(top.length + 1));
  }

  /** Sizes of complete blobs by digest; -1 if the file is gone. */
  blobs(): ReadonlyMap<string, number> {
    return new Map(
      this.in('blobs').map((path) => {
        const size = statSync(join(this.root, 'blobs', path), { throwIfNoEntry: false })?.size;
        return [blobOf('blobs', path), size ?? -1];
      }),
    );
  }

  /** Digests of partial blobs. */
  partialBlobs(): ReadonlySet<string> {
    return new Set(this.in('partial').map((path) => blobOf('partial', path)));
  }

  /** The actual digest of the file stored as `digest`; `undefined` if it is gone. */
  actualDigest(digest: string): string | undefined {
    const [algorithm = '', hex = ''] = digest.split(':');
    try {
      return sha256(readFileSync(join(this.root, 'blobs', algorithm, hex.slice(0, 2), hex)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  /** Open blobs of a process, and removed files that still take space, except those of indexes. */
  openBy(pid: number): string[] {
    const folder = `/proc/${pid}/fd`;
    const targets = readdirSync(folder).flatMap((name) => {
      try {
        return [readlinkSync(join(folder, name))];
      } catch {
        // Closed meanwhile.
        return [];
      }
    });
    const blobs = [join(this.root, 'blobs'), join(this.root, 'partial')];
    return targets.filter(
      (target) =>
        blobs.some((blob) => target.startsWith(`${blob}/`)) ||
        (target.startsWith(this.root) && target.endsWith('(deleted)') && !target.includes('/indexes/')),
    );
  }

  /**
   * Changes files as a failing disk does.
   * @param onChange called with the digest of each blob before its file changes
   */
  async damage(
    folder: StoredFolder,
    { share, reach, how }: Damage,
    onChange: (digest: string) => void,
  ): Promise<void> {
    const paths = this.in(folder)
      .filter((path) => !UNFINISHED.test(path))
      .toSorted();
    const first = Math.floor(share * paths.length);
    for (const path of reach === 'all' ? paths : paths.slice(first, first + 1)) {
      if (folder === 'blobs' || folder === 'partial') onChange(blobOf(folder, path));
      await damageFile(join(this.root, folder, path), share, how);
    }
  }
}

function blobOf(folder: 'blobs' | 'partial', path: string): string {
  if (folder === 'partial') return path.split('-', 2).join(':');
  const [algorithm = '', , hex = ''] = path.split('/');
  return `${algorithm}:${hex}`;
}

async function damageFile(path: string, share: number, how: Damage['how']): Promise<void> {
  try {
    const { size } = await stat(path);
    if (how === 'remove') await rm(path);
    else if (how === 'cut') await truncate(path, Math.floor(share * size));
    else if (how === 'grow') await appendFile(path, 'more');
    else await flipByte(path, Math.floor(share * size));
  } catch (error) {
    // Gone meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function flipByte(path: string, at: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  const { bytesRead } = await file.read(byte, 0, 1, at);
  if (bytesRead === 0) return;
  const flipped = byte.map((value) => value ^ 0x55);
  await file.write(flipped, 0, 1, at);
}
