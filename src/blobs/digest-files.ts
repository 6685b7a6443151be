import { randomUUID } from 'node:crypto';
import { access, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex } from '../core/digest.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { syncFolderOf } from './store-layout.ts';
import { unfinishedFolderOf } from './unfinished-files.ts';

/**
 * Files in folders of their own, one for each digest. A file has its name only when it is whole; until then it lies in a folder beside
 * the others, which {@link sweepUnfinished} empties before the next start.
 */
export class DigestFiles {
  readonly #folder: string;
  readonly #isDurable: boolean;

  /**
   * @param options.durable false: a write does not wait for the disk, and a power failure may leave less than was written, for those
   * who check what they read
   */
  constructor(folder: string, options: { readonly durable?: boolean } = {}) {
    this.#folder = folder;
    this.#isDurable = options.durable ?? true;
  }

  path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#folder, digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /** The file's bytes, as they are on disk: the caller checks them. */
  async read(digest: Digest): Promise<Buffer | undefined> {
    try {
      return await readFile(this.path(digest));
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  async has(digest: Digest): Promise<boolean> {
    return access(this.path(digest)).then(
      () => true,
      () => false,
    );
  }

  async write(digest: Digest, bytes: Uint8Array): Promise<void> {
    const unfinished = await this.newPath();
    try {
      const file = await open(unfinished, 'wx');
      try {
        await file.writeFile(bytes);
        if (this.#isDurable) await file.sync();
      } finally {
        await file.close();
      }
      await this.take(digest, unfinished);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
  }

  /** Where a file can be written before it is given to {@link take}. No other file has the path, or had it. */
  async newPath(): Promise<string> {
    const folder = unfinishedFolderOf(this.#folder);
    await mkdir(folder, { recursive: true });
    return join(folder, randomUUID());
  }

  /**
   * Give a file that is whole the name of its digest, in the place of the one that has it; whoever has that one open goes on reading it.
   * Once this resolves, the name outlives a power failure, if writes wait for the disk.
   */
  async take(digest: Digest, path: string): Promise<void> {
    const named = this.path(digest);
    await mkdir(dirname(named), { recursive: true });
    await rename(path, named);
    if (this.#isDurable) await syncFolderOf(named);
  }

  async remove(digest: Digest): Promise<void> {
    await rm(this.path(digest), { force: true });
  }
}
