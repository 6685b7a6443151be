import { rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

import { type Digest, isDigest } from '../../core/digest.ts';
import type { Logger } from '../../telemetry/logger.ts';

/** One pass of the scrub over all blobs. Times are milliseconds of the epoch. */
export interface ScrubPass {
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  readonly blobs: number;
  readonly bytes: number;
  /** Number of damaged blobs. */
  readonly condemned: number;
}

const LAST_PASS_FIELDS = ['startedAtMs', 'finishedAtMs', 'blobs', 'bytes', 'condemned'] as const;

/**
 * Records the verified blobs on disk: their sizes, and when their digests were last verified. Blobs that it
 * lacks are verified before use, so losing the file costs only time. A damaged ledger is replaced by an empty
 * one; if it cannot be written, new records are lost with the process.
 */
export class BlobLedger implements Disposable {
  /** The previous process did not exit cleanly. */
  readonly wasUnclean: boolean;
  readonly #database: DatabaseSync;
  readonly #logger: Logger;

  private constructor(database: DatabaseSync, wasUnclean: boolean, logger: Logger) {
    this.#database = database;
    this.wasUnclean = wasUnclean;
    this.#logger = logger;
  }

  static open(path: string, logger: Logger): BlobLedger {
    try {
      return begin(new DatabaseSync(path), logger);
    } catch (error) {
      logger.warn({ err: error, path }, 'the list of verified blobs is not usable: a new one is started');
    }
    try {
      for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${path}${suffix}`, { force: true });
      return begin(new DatabaseSync(path), logger);
    } catch (error) {
      logger.warn(
        { err: error, path },
        'the list of verified blobs cannot be stored: it ends with this process',
      );
      return begin(new DatabaseSync(':memory:'), logger);
    }

    function begin(database: DatabaseSync, log: Logger): BlobLedger {
      try {
        return new BlobLedger(database, prepare(database), log);
      } catch (error) {
        database.close();
        throw error;
      }
    }
  }

  /** Sizes of the verified blobs. */
  sizes(): Map<Digest, number> {
    const sizes = new Map<Digest, number>();
    const rows = this.#use((database) => database.prepare('SELECT digest, size_bytes FROM blobs').all());
    for (const { digest, size_bytes: sizeBytes } of rows ?? [])
      if (typeof digest === 'string' && isDigest(digest) && typeof sizeBytes === 'number')
        sizes.set(digest, sizeBytes);
    return sizes;
  }

  /** Digests of the blobs, the one verified longest ago first. */
  byAge(): Digest[] {
    const query = 'SELECT digest FROM blobs ORDER BY verified_at_ms';
    const rows = this.#use((database) => database.prepare(query).all()) ?? [];
    return rows.flatMap(({ digest }) => (typeof digest === 'string' && isDigest(digest) ? [digest] : []));
  }

  /** @param nowMs milliseconds of the epoch */
  record(digest: Digest, sizeBytes: number, nowMs: number): void {
    const query = 'INSERT OR REPLACE INTO blobs (digest, size_bytes, verified_at_ms) VALUES (?, ?, ?)';
    this.#use((database) => database.prepare(query).run(digest, sizeBytes, nowMs));
  }

  forget(digest: Digest): void {
    this.#use((database) => database.prepare('DELETE FROM blobs WHERE digest = ?').run(digest));
  }

  get lastPass(): ScrubPass | undefined {
    return this.#use((database) => {
      const pass = JSON.parse(readState(database, 'last-pass') ?? '{}') as Record<string, unknown>;
      const isPass = LAST_PASS_FIELDS.every((field) => typeof pass[field] === 'number');
      return isPass ? (pass as unknown as ScrubPass) : undefined;
    });
  }

  set lastPass(pass: ScrubPass) {
    this.#use((database) => writeState(database, 'last-pass', JSON.stringify(pass)));
  }

  #use<T>(work: (database: DatabaseSync) => T): T | undefined {
    try {
      return work(this.#database);
    } catch (error) {
      this.#logger.warn({ err: error }, 'the list of verified blobs is not usable');
      return undefined;
    }
  }

  /** Records a clean exit. */
  [Symbol.dispose](): void {
    if (!this.#database.isOpen) return;
    this.#use((database) => writeState(database, 'running', 'no'));
    this.#database.close();
  }
}

/** @returns whether the previous process did not exit cleanly */
function prepare(database: DatabaseSync): boolean {
  database.exec('PRAGMA journal_mode = WAL');
  database.exec(
    'CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, ' +
      'verified_at_ms INTEGER NOT NULL) WITHOUT ROWID',
  );
  database.exec(
    'CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID',
  );
  const wasUnclean = readState(database, 'running') === 'yes';
  // Write the running mark to disk before anything else. Rows lost in a power failure are verified again.
  database.exec('PRAGMA synchronous = FULL');
  writeState(database, 'running', 'yes');
  database.exec('PRAGMA synchronous = NORMAL');
  return wasUnclean;
}

function readState(database: DatabaseSync, name: string): string | undefined {
  const value = database.prepare('SELECT value FROM state WHERE name = ?').get(name)?.['value'];
  return typeof value === 'string' ? value : undefined;
}

function writeState(database: DatabaseSync, name: string, value: string): void {
  database.prepare('INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)').run(name, value);
}
