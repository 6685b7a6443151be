import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pid } from 'node:process';
import { DatabaseSync } from 'node:sqlite';

import { SpandrelError } from '../core/errors.ts';

/**
 * Keeps a folder for one process. The lock is that of the operating system on the file `lock`, which SQLite takes in a way that
 * works on every platform: it ends with its process, however that ends, so none is ever stale, and process ids that containers
 * use again do not matter. The file itself stays.
 */
export class StoreLock implements AsyncDisposable {
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** @throws SpandrelError STORE_LOCKED, with the process id of the owner in message and detail */
  static async acquire(root: string): Promise<StoreLock> {
    const ownerPath = join(root, 'lock-owner');
    const database = new DatabaseSync(join(root, 'lock'), { timeout: 0 });
    try {
      database.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      database.close();
      const owner = await readFile(ownerPath, 'utf8').catch(() => '');
      const ownerPid = /^\d+$/.test(owner) ? Number(owner) : undefined;
      throw new SpandrelError(
        'STORE_LOCKED',
        `the store ${root} belongs to the running process ${ownerPid ?? '(unknown)'}`,
        {
          cause: error,
          detail: { pid: ownerPid },
        },
      );
    }
    const lock = new StoreLock(database);
    try {
      await writeFile(ownerPath, String(pid));
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
    return lock;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) this.#database.close();
  }
}
