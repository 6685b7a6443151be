import type { StatementSync } from 'node:sqlite';

import { BoundedRows, RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { type ByteCache, type CacheHit, sealedOnly } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface LayerSpansOptions extends RecordsOptions {
  /** Where replicas share them. */
  readonly shared: ByteCache | undefined;
}

const MAX_IN_MEMORY = 20_000;
const ROW_BYTES = 200;
const KEY_PREFIX = 'span:1:';
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS spans (id INTEGER PRIMARY KEY, repository TEXT NOT NULL, ' +
  'layer TEXT NOT NULL, span_bytes INTEGER NOT NULL, UNIQUE (repository, layer))';

/**
 * The span sizes of the zTOCs that a repository's images name for compressed layers, where that was decided:
 * an image that was answered once keeps them. Kept as the records of tars are; the first decision counts, of
 * all replicas.
 */
export class LayerSpans implements Disposable {
  readonly #recent = new BoundedMap<{ readonly spanBytes: number | undefined }>({
    maxEntries: MAX_IN_MEMORY,
  });
  readonly #file: RecordFile;
  readonly #shared: ByteCache | undefined;
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #rows: BoundedRows;

  private constructor(file: RecordFile, { storeBytes, shared }: LayerSpansOptions) {
    this.#file = file;
    this.#shared = sealedOnly(shared);
    this.#rows = new BoundedRows(file, 'spans', { storeBytes, rowBytes: ROW_BYTES });
    this.#find = file.prepare('SELECT span_bytes FROM spans WHERE repository = ? AND layer = ?');
    this.#put = file.prepare('INSERT OR IGNORE INTO spans (repository, layer, span_bytes) VALUES (?, ?, ?)');
  }

  static open(path: string, options: LayerSpansOptions): LayerSpans {
    const { health, logger } = options;
    const ofFile = { kind: 'boot', schema: SCHEMA, health, logger } as const;
    return RecordFile.open(path, ofFile, (file) => new LayerSpans(file, options));
  }

  /** As this replica knows. */
  known(target: Target, layer: Digest): number | undefined {
    const key = `${targetKey(target)} ${layer}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent.spanBytes;
    const row = this.#file.read(() => ({ found: this.#find.get(targetKey(target), layer) }));
    if (row === undefined) return undefined;
    const found = row.found?.['span_bytes'];
    const spanBytes = typeof found === 'number' ? found : undefined;
    this.#recent.set(key, { spanBytes });
    return spanBytes;
  }

  /** Decides. Without a key, anybody could have decided in Redis. @returns what was decided first */
  async decide(target: Target, layer: Digest, spanBytes: number): Promise<number> {
    const known = this.known(target, layer);
    const key = `${KEY_PREFIX}${targetKey(target)}:${layer}`;
    if (known !== undefined) {
      this.#shared?.keep?.(key, () => Buffer.from(String(known)));
      return known;
    }
    const first = parseSpanBytes(await this.#shared?.setNew(key, Buffer.from(String(spanBytes))));
    this.#recent.delete(`${targetKey(target)} ${layer}`);
    this.#file.write(() =>
      this.#rows.added(this.#put.run(targetKey(target), layer, first ?? spanBytes).changes),
    );
    return this.known(target, layer) ?? first ?? spanBytes;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function parseSpanBytes(hit: CacheHit | undefined): number | undefined {
  const text = hit && Buffer.from(hit.bytes).toString();
  return text !== undefined && /^[1-9]\d{3,14}$/.test(text) ? Number(text) : undefined;
}
