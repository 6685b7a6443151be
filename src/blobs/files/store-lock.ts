import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { SpandrelError } from '../../core/errors.ts';

/**
 * Reserves a folder for one process with an operating system lock on the file `lock`. SQLite takes it in a
 * way that works on every platform. The lock ends with its process, however that ends, so it is never stale,
 * and process ids that containers reuse do not matter. The file stays.
 */
export class StoreLock implements AsyncDisposable {
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /**
   * @param pid of this process, for the error of other processes
   * @throws SpandrelError STORE_LOCKED, with the process id of the owner in message and detail; STORE_FAILED
   */
  static async acquire(root: string, pid?: number): Promise<StoreLock> {
    const ownerPath = join(root, 'lock-owner');
    const database = openDatabase(join(root, 'lock'));
    try {
      // Nothing is written, so that a full disk can be locked too.
      database.exec('PRAGMA journal_mode = MEMORY');
      database.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      database.close();
      if (!isBusy(error)) throw cannotLock(error);
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
    // The file is informative only, and a full disk has no room for it.
    await writeFile(ownerPath, String(pid ?? '')).catch(() => undefined);
    return new StoreLock(database);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) this.#database.close();
  }
}

/** `SQLITE_BUSY`: https://sqlite.org/rescode.html#busy */
const BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === BUSY;
}

function openDatabase(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout: 0 });
  } catch (error) {
    throw cannotLock(error);
  }
}

function cannotLock(error: unknown): SpandrelError {
  const why = error instanceof Error ? error.message : String(error);
  return new SpandrelError('STORE_FAILED', `the store cannot be locked: ${why}`, { cause: error });
}
