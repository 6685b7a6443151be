import { rmSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

import type { StoreHealth } from '../../blobs/files/store-health.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { type Derivation, parseDerivation } from './derivation.ts';

/** Proof that a repository has a digest: its upstream has it, or it was made from what the repository has. */
export interface Proof {
  /** As {@link steadyNow}. */
  readonly provenAtMs: number;
  /** What it was made from; `undefined` if the upstream itself has it. */
  readonly derivation: Derivation | undefined;
}

/** The most used proofs; others are read from the file. */
const MAX_IN_MEMORY = 50_000;
/** Rows in the file, of about 300 bytes each. Beyond that the oldest proofs are deleted, some at a time. */
const MAX_ROWS = 1_000_000;
const MIN_ROWS = 10_000;
const ROW_BYTES = 300;
const ROWS_THAT_GO = 100;
/** Share of the store that the file may take. */
const SHARE = 1 / 64;
/** Older proofs are not used, even while an upstream is away. */
export const LONGEST_PROOF_MS = 30 * 24 * 3_600_000;

export interface ProofTableOptions {
  readonly health: StoreHealth;
  readonly logger: Logger;
  /** As {@link steadyNow}. */
  readonly nowMs: number;
  /** `storage.maxBytes`; the file takes a small share of it. */
  readonly storeBytes: number;
}

/**
 * When an upstream last proved that a repository has a blob or manifest, in memory and in a file that
 * outlives the process. The file is a convenience: a damaged one is replaced, and one that cannot be written
 * costs a request to the upstream after a restart.
 */
export class ProofTable implements Disposable {
  readonly #recent = new BoundedMap<Proof>({ maxEntries: MAX_IN_MEMORY });
  readonly #health: StoreHealth;
  readonly #logger: Logger;
  readonly #database: DatabaseSync;
  readonly #find: StatementSync;
  readonly #findNext: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #deleteOldest: StatementSync;
  readonly #maxRows: number;
  #rows: number;

  private constructor(database: DatabaseSync, { health, logger, storeBytes }: ProofTableOptions) {
    this.#database = database;
    this.#maxRows = Math.min(MAX_ROWS, Math.max(MIN_ROWS, Math.floor((storeBytes * SHARE) / ROW_BYTES)));
    this.#rows = Number(database.prepare('SELECT COUNT(*) AS count FROM proofs').get()?.['count']);
    this.#health = health;
    this.#logger = logger;
    this.#find = database.prepare('SELECT proven_at_ms, origin FROM proofs WHERE name = ?');
    this.#findNext = database.prepare('SELECT name FROM proofs WHERE name > ? ORDER BY name LIMIT 1');
    this.#put = database.prepare(
      'INSERT OR REPLACE INTO proofs (name, proven_at_ms, origin) VALUES (?, ?, ?)',
    );
    this.#delete = database.prepare('DELETE FROM proofs WHERE name = ?');
    this.#deleteOldest = database.prepare(
      'DELETE FROM proofs WHERE name IN (SELECT name FROM proofs ORDER BY proven_at_ms LIMIT ?)',
    );
  }

  static open(path: string, options: ProofTableOptions): ProofTable {
    const { health, logger, nowMs } = options;
    try {
      return new ProofTable(openDatabase(path, nowMs), options);
    } catch (error) {
      logger.warn({ err: error, path }, 'the table of proofs cannot be read and is replaced');
    }
    try {
      for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${path}${suffix}`, { force: true });
      return new ProofTable(openDatabase(path, nowMs), options);
    } catch (error) {
      health.noteWriteFailure('proof', error);
      return new ProofTable(openDatabase(':memory:', nowMs), options);
    }
  }

  get(name: string): Proof | undefined {
    const recent = this.#recent.get(name);
    if (recent !== undefined) return recent;
    const row = this.#look(this.#find, name);
    if (typeof row?.['proven_at_ms'] !== 'number') return undefined;
    const { origin } = row;
    const derivation = typeof origin === 'string' ? parseDerivation(tryParseJson(origin)) : undefined;
    // Rows of earlier versions are incomplete.
    if (origin !== null && derivation === undefined) return undefined;
    const found = { provenAtMs: row['proven_at_ms'], derivation };
    this.#recent.set(name, found);
    return found;
  }

  set(name: string, proof: Proof): void {
    this.#recent.set(name, proof);
    const { provenAtMs, derivation } = proof;
    this.#write(() => {
      if (this.#find.get(name) === undefined) this.#rows++;
      this.#put.run(name, provenAtMs, derivation === undefined ? null : JSON.stringify(derivation));
      if (this.#rows > this.#maxRows) this.#rows -= Number(this.#deleteOldest.run(ROWS_THAT_GO).changes);
    });
  }

  /** The first name that is greater in bytewise order. */
  firstAfter(name: string): string | undefined {
    const found = this.#look(this.#findNext, name)?.['name'];
    return typeof found === 'string' ? found : undefined;
  }

  delete(name: string): void {
    this.#recent.delete(name);
    this.#write(() => (this.#rows -= Number(this.#delete.run(name).changes)));
  }

  #look(statement: StatementSync, name: string): ReturnType<StatementSync['get']> {
    try {
      return statement.get(name);
    } catch (error) {
      this.#logger.warn({ err: error }, 'the table of proofs cannot be read');
      return undefined;
    }
  }

  #write(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#health.noteWriteFailure('proof', error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

function openDatabase(path: string, nowMs: number): DatabaseSync {
  const database = new DatabaseSync(path);
  try {
    // The last rows may be lost in a power failure. Requests must not wait for the disk.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF');
    database.exec(
      'CREATE TABLE IF NOT EXISTS proofs ' +
        '(name TEXT PRIMARY KEY, proven_at_ms INTEGER NOT NULL, origin TEXT) WITHOUT ROWID',
    );
    database.exec('CREATE INDEX IF NOT EXISTS proofs_by_age ON proofs (proven_at_ms)');
    // Rows that a wrong clock dated far ahead would never expire.
    database
      .prepare('DELETE FROM proofs WHERE proven_at_ms NOT BETWEEN ? AND ?')
      .run(nowMs - LONGEST_PROOF_MS, nowMs + LONGEST_PROOF_MS);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}
