import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { isPassingFault, storeFault } from '../files/store-fault.ts';
import type { FileShelf } from './store-files.ts';
import type { StoredKind } from '../../telemetry/metrics.ts';
import type { StoreHealth } from '../files/store-health.ts';
import { syncFolderOf } from '../files/store-layout.ts';
import { unfinishedFolderOf } from '../files/unfinished-files.ts';

export interface DigestFilesOptions {
  /**
   * False: a write does not wait for the disk, and a power failure may leave less than was written, for those who check what they
   * read.
   */
  readonly durable?: boolean;
  /** What the files are, and who is told of those that are damaged or cannot be written. */
  readonly kept?: { readonly kind: StoredKind; readonly health: StoreHealth };
  /** Who is told what there is. */
  readonly shelf?: FileShelf;
}

/**
 * Files in folders of their own, one for each digest. A file has its name only when it is whole; until then it lies in a folder beside
 * the others, which {@link sweepUnfinished} empties before the next start.
 */
export class DigestFiles {
  readonly #folder: string;
  readonly #isDurable: boolean;
  readonly #kept: DigestFilesOptions['kept'];
  readonly #shelf: FileShelf | undefined;

  constructor(folder: string, options: DigestFilesOptions = {}) {
    this.#folder = folder;
    this.#isDurable = options.durable ?? true;
    this.#kept = options.kept;
    this.#shelf = options.shelf;
  }

  path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#folder, digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /**
   * The file's bytes, as they are on disk: the caller checks them, and has those that are wrong {@link condemn}ed. A file that cannot be
   * read is condemned.
   * @throws SpandrelError STORE_FAILED for a reason that lies outside of the file
   */
  async read(digest: Digest): Promise<Buffer | undefined> {
    try {
      const bytes = await readFile(this.path(digest), { flag: constants.O_RDONLY | constants.O_NONBLOCK });
      this.noteUse(digest);
      return bytes;
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      if (isPassingFault(error)) throw storeFault(error, 'read a file');
      await this.condemn(digest, 'unreadable');
      return undefined;
    }
  }

  async has(digest: Digest): Promise<boolean> {
    return stat(this.path(digest)).then(
      (file) => file.isFile(),
      () => false,
    );
  }

  /** @throws SpandrelError STORE_FULL, STORE_FAILED */
  async write(digest: Digest, bytes: Uint8Array): Promise<void> {
    await this.#storing(() => this.#write(digest, bytes));
  }

  /** As {@link write}, for what can be done without. @returns false if it could not be written */
  async tryWrite(digest: Digest, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.write(digest, bytes);
      return true;
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED')) throw error;
      return false;
    }
  }

  /** @throws SpandrelError STORE_FULL, STORE_FAILED */
  async #storing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isSpandrelError(error)) throw error;
      const fault = storeFault(error, 'write a file');
      this.noteWriteFailure(fault);
      throw fault;
    }
  }

  async #write(digest: Digest, bytes: Uint8Array): Promise<void> {
    const unfinished = await this.newPath();
    try {
      await writeFile(unfinished, bytes, { flag: 'wx', flush: this.#isDurable });
      await this.#take(digest, unfinished);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
  }

  /**
   * Where a file can be written before it is given to {@link take}. No other file has the path, or had it.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async newPath(): Promise<string> {
    const folder = unfinishedFolderOf(this.#folder);
    await this.#storing(() => mkdir(folder, { recursive: true }));
    return join(folder, randomUUID());
  }

  /**
   * Give a file that is whole the name of its digest, in the place of the one that has it; whoever has that one open goes on reading it.
   * Once this resolves, the name outlives a power failure, if writes wait for the disk.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  take(digest: Digest, path: string): Promise<void> {
    return this.#storing(() => this.#take(digest, path));
  }

  async #take(digest: Digest, path: string): Promise<void> {
    const named = this.path(digest);
    await mkdir(dirname(named), { recursive: true });
    // Not even a folder may stand in the way.
    await rename(path, named).catch(async (error: unknown) => {
      if (nodeErrorCode(error) !== 'EISDIR') throw error;
      await rm(named, { recursive: true });
      await rename(path, named);
    });
    if (this.#isDurable) await syncFolderOf(named);
    if (this.#shelf !== undefined) this.#shelf.noteWritten(digest, (await stat(named)).size);
  }

  /** The file is in use: others go before it when there is no room. */
  noteUse(digest: Digest): void {
    this.#shelf?.noteUse(digest);
  }

  /** What cannot be removed stays: whoever reads it checks it. */
  async remove(digest: Digest): Promise<void> {
    await rm(this.path(digest), { force: true, recursive: true }).catch((error: unknown) =>
      this.noteWriteFailure(storeFault(error, 'remove a file')),
    );
    this.#shelf?.noteRemoved(digest);
  }

  /** Remove a file that is not what was written. */
  async condemn(digest: Digest, damage: 'unreadable' | 'digest' = 'digest'): Promise<void> {
    this.noteDamage(digest, damage);
    await this.remove(digest);
  }

  /** A file could not be written by whoever was to give it to {@link take}. */
  noteWriteFailure(error: unknown): void {
    this.#kept?.health.noteWriteFailure(this.#kept.kind, error);
  }

  /** A file is not what was written, and stays until another takes its place. */
  noteDamage(digest: Digest, damage: 'unreadable' | 'digest' = 'digest'): void {
    this.#kept?.health.noteDamage(this.#kept.kind, digest, damage);
  }
}
