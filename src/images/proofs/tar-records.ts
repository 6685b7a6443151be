import type { StatementSync } from 'node:sqlite';

import { BoundedRows, RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

/** A layer of a repository, and what it decompresses to. Both were verified. */
export interface TarRecord {
  /** Digest of the tar. */
  readonly diffId: Digest;
  readonly layer: Digest;
  readonly tarBytes: number;
  /** Span size of the zTOC over the tar that the repository's images name. */
  readonly spanBytes: number;
  /** The content coding of the tar that the layer is; absent if clients could not decode it. */
  readonly coding?: TarCoding | undefined;
}

export type TarCoding = 'gzip' | 'zstd';

/** The most used records; others are read from the file. */
const MAX_IN_MEMORY = 20_000;
const MAX_REPOSITORIES = 10_000;
const ROW_BYTES = 300;
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS tars (id INTEGER PRIMARY KEY, repository TEXT NOT NULL, ' +
  'diff_id TEXT NOT NULL, layer TEXT NOT NULL, tar_bytes INTEGER NOT NULL, ' +
  'span_bytes INTEGER NOT NULL, coding TEXT, UNIQUE (repository, diff_id, layer))';
/** Layers of one repository with the same tar. */
const MAX_LAYERS = 8;

/**
 * Which layers of a repository decompress to which tars, in a file that outlives the process. A tag may have
 * named a tar to nodes whose containers read it for weeks, so the file is kept apart from the cache: nothing
 * evicts its rows but newer ones, and a damaged file is put aside, not deleted.
 */
export class TarRecords implements Disposable {
  readonly #recent = new BoundedMap<readonly TarRecord[]>({ maxEntries: MAX_IN_MEMORY });
  /** Whether repositories have records. */
  readonly #known = new BoundedMap<{ readonly isKnown: boolean }>({ maxEntries: MAX_REPOSITORIES });
  readonly #file: RecordFile;
  readonly #find: StatementSync;
  readonly #findAny: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #rows: BoundedRows;

  private constructor(file: RecordFile, storeBytes: number) {
    this.#file = file;
    this.#rows = new BoundedRows(file, 'tars', { storeBytes, rowBytes: ROW_BYTES });
    this.#find = file.prepare('SELECT * FROM tars WHERE repository = ? AND diff_id = ? ORDER BY id LIMIT ?');
    this.#findAny = file.prepare('SELECT id FROM tars WHERE repository = ? LIMIT 1');
    this.#put = file.prepare(
      'INSERT OR IGNORE INTO tars (repository, diff_id, layer, tar_bytes, span_bytes, coding) ' +
        'VALUES (?, ?, ?, ?, ?, ?)',
    );
    this.#delete = file.prepare('DELETE FROM tars WHERE repository = ? AND diff_id = ? AND layer = ?');
  }

  static open(path: string, { storeBytes, ...shared }: RecordsOptions): TarRecords {
    return RecordFile.open(
      path,
      { kind: 'tar', schema: SCHEMA, ...shared },
      (file) => new TarRecords(file, storeBytes),
    );
  }

  /** Layers that decompress to a tar, the first known first. */
  find(target: Target, diffId: Digest): readonly TarRecord[] {
    const key = `${targetKey(target)} ${diffId}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent;
    const rows = this.#file.read(() => this.#find.all(targetKey(target), diffId, MAX_LAYERS));
    if (rows === undefined) return [];
    const found = rows.flatMap((row) => parseRow(row) ?? []);
    // Most requests are for other blobs: that there is no record is remembered too.
    this.#recent.set(key, found);
    return found;
  }

  /** True if tags of the repository have named tars. */
  knows(target: Target): boolean {
    const key = targetKey(target);
    const known = this.#known.get(key);
    if (known !== undefined) return known.isKnown;
    const rows = this.#file.read(() => this.#findAny.all(key));
    // Without facts, the search for a tar may be in vain; to say that there is none could be wrong.
    if (rows === undefined) return true;
    this.#known.set(key, { isKnown: rows.length > 0 });
    return rows.length > 0;
  }

  /** Keeps a record, unless there is one of the same layer. */
  put(target: Target, record: TarRecord): void {
    const { diffId, layer, tarBytes, spanBytes, coding } = record;
    if (this.find(target, diffId).some((known) => known.layer === layer)) return;
    const repository = targetKey(target);
    this.#recent.delete(`${repository} ${diffId}`);
    this.#known.set(repository, { isKnown: true });
    this.#file.write(() =>
      this.#rows.added(this.#put.run(repository, diffId, layer, tarBytes, spanBytes, coding ?? null).changes),
    );
  }

  /** Forgets a layer that is gone or does not decompress to the tar. */
  delete(target: Target, { diffId, layer }: TarRecord): void {
    this.#recent.delete(`${targetKey(target)} ${diffId}`);
    this.#file.write(() => this.#rows.deleted(this.#delete.run(targetKey(target), diffId, layer).changes));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function parseRow(row: Record<string, unknown>): TarRecord | undefined {
  const { diff_id: diffId, layer, tar_bytes: tarBytes, span_bytes: spanBytes, coding } = row;
  return parseTarRecord({ diffId, layer, tarBytes, spanBytes, ...(coding === null ? {} : { coding }) });
}

/** A record that was stored or shared; `undefined` if it is damaged. */
export function parseTarRecord(value: Readonly<Record<string, unknown>>): TarRecord | undefined {
  const { diffId, layer, tarBytes, spanBytes, coding } = value;
  if (typeof diffId !== 'string' || !isDigest(diffId) || typeof layer !== 'string' || !isDigest(layer))
    return undefined;
  if (!isCount(tarBytes) || !isCount(spanBytes)) return undefined;
  const isCoding = coding === 'gzip' || coding === 'zstd';
  return { diffId, layer, tarBytes, spanBytes, ...(isCoding ? { coding } : {}) };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}
