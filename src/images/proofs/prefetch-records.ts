import type { StatementSync } from 'node:sqlite';

import { BoundedRows, RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import {
  decodePrefetchRecord,
  encodePrefetchRecord,
  type PrefetchKey,
  type PrefetchRecord,
  type RecordedPrefetch,
} from './prefetch-record.ts';

const MAX_IN_MEMORY = 2_000;
const MAX_BLOBS_IN_MEMORY = 20_000;
/** Rough size of a record with its artifacts. */
const ROW_BYTES = 2_000;
/** Short artifacts are the same in many images. */
const MAX_SAME = 16;
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS prefetches (id INTEGER PRIMARY KEY, repository TEXT NOT NULL, ' +
  'image TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (repository, image, kind)); ' +
  'CREATE TABLE IF NOT EXISTS artifacts (digest TEXT NOT NULL, ' +
  'prefetch INTEGER NOT NULL REFERENCES prefetches (id) ON DELETE CASCADE, ' +
  'PRIMARY KEY (digest, prefetch)) WITHOUT ROWID; ' +
  'CREATE INDEX IF NOT EXISTS artifacts_by_prefetch ON artifacts (prefetch)';

/**
 * Which prefetch artifacts the SOCI indexes of a repository's images list, with their bytes: nodes may ask
 * for one long after its index was named.
 */
export class PrefetchRecords implements Disposable {
  readonly #recent = new BoundedMap<{ readonly record: PrefetchRecord | undefined }>({
    maxEntries: MAX_IN_MEMORY,
  });
  /** By digest. Most requests are for other blobs: that there is none is remembered too. */
  readonly #artifacts = new BoundedMap<readonly RecordedPrefetch[]>({ maxEntries: MAX_BLOBS_IN_MEMORY });
  readonly #file: RecordFile;
  readonly #find: StatementSync;
  readonly #findArtifact: StatementSync;
  readonly #put: StatementSync;
  readonly #putArtifact: StatementSync;
  readonly #rows: BoundedRows;

  private constructor(file: RecordFile, storeBytes: number) {
    this.#file = file;
    this.#rows = new BoundedRows(file, 'prefetches', { storeBytes, rowBytes: ROW_BYTES });
    this.#find = file.prepare('SELECT body FROM prefetches WHERE repository = ? AND image = ? AND kind = ?');
    this.#findArtifact = file.prepare(
      'SELECT body FROM artifacts JOIN prefetches ON prefetches.id = artifacts.prefetch ' +
        'WHERE digest = ? ORDER BY prefetch DESC LIMIT ?',
    );
    this.#put = file.prepare(
      'INSERT OR IGNORE INTO prefetches (repository, image, kind, body) VALUES (?, ?, ?, ?)',
    );
    this.#putArtifact = file.prepare('INSERT OR IGNORE INTO artifacts (digest, prefetch) VALUES (?, ?)');
  }

  static open(path: string, { storeBytes, ...shared }: RecordsOptions): PrefetchRecords {
    return RecordFile.open(
      path,
      { kind: 'prefetch', schema: SCHEMA, ...shared },
      (file) => new PrefetchRecords(file, storeBytes),
    );
  }

  find(target: Target, { image, kind }: PrefetchKey): PrefetchRecord | undefined {
    const key = `${targetKey(target)} ${image} ${kind}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent.record;
    const row = this.#file.read(() => ({ found: this.#find.get(targetKey(target), image, kind) }));
    if (row === undefined) return undefined;
    const record = row.found && parseRow(row.found);
    this.#recent.set(key, { record });
    return record;
  }

  /**
   * The artifacts with this digest, which may be about several layers, whichever repository they were planned
   * for; the newest first. They say nothing about who may have them.
   */
  findArtifact(digest: Digest): readonly RecordedPrefetch[] {
    const known = this.#artifacts.get(digest);
    if (known !== undefined) return known;
    const rows = this.#file.read(() => this.#findArtifact.all(digest, MAX_SAME));
    if (rows === undefined) return [];
    const found = rows
      .flatMap((row) => parseRow(row)?.artifacts ?? [])
      .filter((artifact) => artifact.digest === digest);
    this.#artifacts.set(digest, found);
    return found;
  }

  /** Keeps a record, unless there is one. @returns the one that counts now */
  put(target: Target, record: PrefetchRecord): PrefetchRecord {
    const repository = targetKey(target);
    const { image, kind, artifacts } = record;
    this.#recent.delete(`${repository} ${image} ${kind}`);
    for (const { digest } of artifacts) this.#artifacts.delete(digest);
    this.#file.write(() => {
      const put = this.#put.run(repository, image, kind, encodePrefetchRecord(record));
      if (put.changes === 0) return;
      for (const { digest } of artifacts) this.#putArtifact.run(digest, put.lastInsertRowid);
      this.#rows.added(put.changes);
    });
    return this.find(target, record) ?? record;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** `undefined` if the row is damaged. */
function parseRow({ body }: Record<string, unknown>): PrefetchRecord | undefined {
  return typeof body === 'string' ? decodePrefetchRecord(body) : undefined;
}
