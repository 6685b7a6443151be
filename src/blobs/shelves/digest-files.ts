import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { isPassingFault, storeFault } from '../files/store-fault.ts';
import type { Removals } from '../files/removals.ts';
import type { FileShelf } from './store-files.ts';
import type { StoredKind } from '../../telemetry/stored-kinds.ts';
import type { StoreHealth } from '../files/store-health.ts';
import { syncFolderOf } from '../files/store-layout.ts';
import { unfinishedFolderOf } from '../files/sweep-unfinished.ts';

export interface DigestFilesOptions {
  /**
   * If false, writes do not wait for the disk, and a power failure may leave truncated files; readers must
   * verify them.
   */
  readonly durable?: boolean;
  /** Kind of the files, and the health that damage and failed writes are reported to. */
  readonly kept?: { readonly kind: StoredKind; readonly health: StoreHealth };
  readonly removals?: Removals;
  /** Listener for changes of the files. */
  readonly shelf?: FileShelf;
}

/**
 * Files by digest in a folder. A file gets its name when it is complete; until then it is in a folder beside
 * the others, which {@link sweepUnfinished} empties at the next start.
 */
export class DigestFiles {
  readonly #folder: string;
  readonly #isDurable: boolean;
  readonly #kept: DigestFilesOptions['kept'];
  readonly #removals: Removals | undefined;
  readonly #shelf: FileShelf | undefined;

  constructor(folder: string, options: DigestFilesOptions = {}) {
    this.#folder = folder;
    this.#isDurable = options.durable ?? true;
    this.#kept = options.kept;
    this.#removals = options.removals;
    this.#shelf = options.shelf;
  }

  path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#folder, digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /**
   * Reads a file as it is on disk. The caller verifies it and {@link condemn}s a wrong one. A file that
   * cannot be read is condemned.
   * @throws SpandrelError STORE_FAILED for a reason other than the file
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

  /** As {@link write}, for optional files. @returns false if the file could not be written */
  async tryWrite(digest: Digest, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.write(digest, bytes);
      return true;
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED', 'RESOURCE_EXHAUSTED')) throw error;
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
      await this.discard(unfinished);
      throw error;
    }
  }

  /**
   * A new unique path, to write a file before {@link take}.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async newPath(): Promise<string> {
    const folder = unfinishedFolderOf(this.#folder);
    await this.#storing(() => mkdir(folder, { recursive: true }));
    return join(folder, randomUUID());
  }

  /** Removes a file of {@link newPath}, if it exists: now or, if that fails, later. */
  async discard(path: string): Promise<void> {
    const remove = (): Promise<void> => rm(path, { force: true });
    await (this.#removals === undefined ? remove() : this.#removals.run(path, remove));
  }

  /**
   * Gives a complete file the name of its digest, in place of an existing one, whose readers keep it. When
   * this resolves, the name survives a power failure, if writes wait for the disk.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  take(digest: Digest, path: string): Promise<void> {
    return this.#storing(() => this.#take(digest, path));
  }

  async #take(digest: Digest, path: string): Promise<void> {
    const named = this.path(digest);
    await mkdir(dirname(named), { recursive: true });
    // Removes even a folder of that name.
    await rename(path, named).catch(async (error: unknown) => {
      if (nodeErrorCode(error) !== 'EISDIR') throw error;
      await rm(named, { recursive: true });
      await rename(path, named);
    });
    if (this.#isDurable) await syncFolderOf(named);
    if (this.#shelf !== undefined) this.#shelf.noteWritten(digest, (await stat(named)).size);
  }

  /** Marks the file as used, so that others are evicted first. */
  noteUse(digest: Digest): void {
    this.#shelf?.noteUse(digest);
  }

  /** A file that cannot be removed stays: readers verify it. */
  async remove(digest: Digest): Promise<void> {
    await rm(this.path(digest), { force: true, recursive: true }).catch((error: unknown) =>
      this.noteWriteFailure(storeFault(error, 'remove a file')),
    );
    this.#shelf?.noteRemoved(digest);
  }

  /** Removes a damaged file. */
  async condemn(digest: Digest, damage: 'unreadable' | 'digest' = 'digest'): Promise<void> {
    this.noteDamage(digest, damage);
    await this.remove(digest);
  }

  /** Reports that a file for {@link take} could not be written. */
  noteWriteFailure(error: unknown): void {
    this.#kept?.health.noteWriteFailure(this.#kept.kind, error);
  }

  /** Reports a damaged file, which stays until it is replaced. */
  noteDamage(digest: Digest, damage: 'unreadable' | 'digest' = 'digest'): void {
    this.#kept?.health.noteDamage(this.#kept.kind, digest, damage);
  }
}
