import { mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

import type { Logger } from '../../telemetry/logger.ts';
import type { StoredKind } from '../../telemetry/stored-kinds.ts';
import type { StoreHealth } from '../files/store-health.ts';

/** What the owners of files of records need. */
export interface RecordsOptions {
  readonly health: StoreHealth;
  readonly logger: Logger;
  /** `storage.maxBytes`; a file takes a small share of it. */
  readonly storeBytes: number;
}

export interface RecordFileOptions extends Omit<RecordsOptions, 'storeBytes'> {
  readonly kind: StoredKind;
  /** `CREATE TABLE IF NOT EXISTS` for each table. */
  readonly schema: string;
}

/** Share of the store that one file of records may take. */
const SHARE = 1 / 64;
const MAX_ROWS = 1_000_000;
const MIN_ROWS = 10_000;
/** If there are too many rows, so many of the first ones are deleted. */
const ROWS_THAT_GO = 100;

/** The number of rows of a table with an `id`, and its bound: the rows that were added first go first. */
export class BoundedRows {
  readonly #maxRows: number;
  readonly #deleteFirst: StatementSync;
  #count: number;

  /** @param storeBytes `storage.maxBytes` */
  constructor(
    file: RecordFile,
    table: string,
    { storeBytes, rowBytes }: { storeBytes: number; rowBytes: number },
  ) {
    this.#maxRows = Math.min(MAX_ROWS, Math.max(MIN_ROWS, Math.floor((storeBytes * SHARE) / rowBytes)));
    this.#count = Number(file.prepare(`SELECT COUNT(*) AS count FROM ${table}`).get()?.['count']);
    this.#deleteFirst = file.prepare(
      `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} ORDER BY id LIMIT ?)`,
    );
  }

  /** Call after rows were inserted. @throws Error of SQLite */
  added(rows: number | bigint): void {
    this.#count += Number(rows);
    if (this.#count > this.#maxRows) this.deleted(this.#deleteFirst.run(ROWS_THAT_GO).changes);
  }

  /** Call after rows were deleted. */
  deleted(rows: number | bigint): void {
    this.#count -= Number(rows);
  }
}

/**
 * An SQLite file of small records that cannot be made again from the cache. It is kept apart from what is
 * evicted. A damaged file is put aside, not deleted. If there can be no file, the records are in memory.
 */
export class RecordFile implements Disposable {
  readonly #database: DatabaseSync;
  readonly #options: RecordFileOptions;

  /** Use {@link RecordFile.open}. @throws Error of SQLite */
  private constructor(path: string, options: RecordFileOptions) {
    this.#database = openDatabase(path, options.schema);
    this.#options = options;
  }

  /**
   * Opens the file, or creates it with its folder.
   * @param create prepares statements and reads what the owner needs first: a file that it cannot read is
   * damaged
   */
  static open<T>(path: string, options: RecordFileOptions, create: (file: RecordFile) => T): T {
    const { health, logger, kind } = options;
    try {
      return RecordFile.#tryOpen(path, options, create);
    } catch (error) {
      logger.warn({ err: error, path, kind }, 'a file of records cannot be read and is put aside');
    }
    try {
      putAside(path);
      return RecordFile.#tryOpen(path, options, create);
    } catch (error) {
      health.noteWriteFailure(kind, error);
      return RecordFile.#tryOpen(':memory:', options, create);
    }
  }

  static #tryOpen<T>(path: string, options: RecordFileOptions, create: (file: RecordFile) => T): T {
    const file = new RecordFile(path, options);
    try {
      return create(file);
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws Error of SQLite */
  prepare(sql: string): StatementSync {
    return this.#database.prepare(sql);
  }

  /** The result of `work`; `undefined` if the file cannot be read now. */
  read<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#options.logger.warn({ err: error, kind: this.#options.kind }, 'a file of records cannot be read');
      return undefined;
    }
  }

  /** A failure is counted and logged: what was to be written is lost. */
  write(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#options.health.noteWriteFailure(this.#options.kind, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

function openDatabase(path: string, schema: string): DatabaseSync {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true });
  const database = new DatabaseSync(path);
  try {
    // With NORMAL, a power failure may lose the last rows but never damages the file.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
    database.exec(schema);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function putAside(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    try {
      renameSync(`${path}${suffix}`, `${path}.damaged${suffix}`);
    } catch (error) {
      if (suffix === '') throw error;
      // SQLite removes the other files when it closes the table.
    }
  }
}
