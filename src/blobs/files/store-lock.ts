import { readFile, stat, writeFile } from 'node:fs/promises';
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
  readonly #path: string;
  readonly #file: string | undefined;

  private constructor(database: DatabaseSync, path: string, file: string | undefined) {
    this.#database = database;
    this.#path = path;
    this.#file = file;
  }

  /**
   * @param pid of this process, for the error of other processes
   * @throws SpandrelError STORE_LOCKED, with the process id of the owner in message and detail; STORE_FAILED
   */
  static async acquire(root: string, pid?: number): Promise<StoreLock> {
    const ownerPath = join(root, 'lock-owner');
    const path = join(root, 'lock');
    const database = openDatabase(path);
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
        `storage.root: the store ${root} belongs to the running process ${ownerPid ?? '(unknown)'}` +
          `${ownerPid === undefined ? '' : await describeProcess(ownerPid)}: stop it, or give this one ` +
          'another storage.root (SPANDREL_STORAGE_ROOT)',
        {
          cause: error,
          detail: { pid: ownerPid },
        },
      );
    }
    // The file is informative only, and a full disk has no room for it.
    await writeFile(ownerPath, String(pid ?? '')).catch(() => undefined);
    return new StoreLock(database, path, await identify(path));
  }

  /** False if somebody removed or replaced the file of the lock: another process can lock the store then. */
  async isHeld(): Promise<boolean> {
    return this.#file !== undefined && (await identify(this.#path)) === this.#file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) this.#database.close();
  }
}

/** Device and number of a file; `undefined` if there is none. */
async function identify(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path);
    return `${dev} ${ino}`;
  } catch {
    return undefined;
  }
}

/** How a process was started, in brackets; empty where the system does not say. */
export async function describeProcess(pid: number): Promise<string> {
  // The arguments end with NUL each. A process id of another container has no entry here, or a wrong one.
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  const command = text.replaceAll('\0', ' ').trim();
  return command === '' ? '' : ` (${command.slice(0, MAX_COMMAND_LENGTH)})`;
}

/** `SQLITE_BUSY`: https://sqlite.org/rescode.html#busy */
const BUSY = 5;
const MAX_COMMAND_LENGTH = 200;

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
