import type { StatementSync } from 'node:sqlite';
import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { BoundedRows, RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { type BootRecipe, decodeRecipe, encodeRecipe } from './boot-recipe.ts';

/** What tags answer an image with: its boot layer, or none. */
export type BootAnswer = BootRecipe | 'none';

/** A recipe has some thousand entries. */
const MAX_IN_MEMORY = 500;
const MAX_BLOBS_IN_MEMORY = 20_000;
/** Rough size of a recipe, compressed. */
const ROW_BYTES = 8_000;
const MAX_RECIPE_BYTES = 16 * 2 ** 20;
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS boots (id INTEGER PRIMARY KEY, repository TEXT NOT NULL, ' +
  'image TEXT NOT NULL, layer TEXT, config TEXT, recipe BLOB, UNIQUE (repository, image)); ' +
  'CREATE INDEX IF NOT EXISTS boots_by_layer ON boots (repository, layer); ' +
  'CREATE INDEX IF NOT EXISTS boots_by_config ON boots (repository, config)';

/**
 * What tags of a repository have answered for its images, and how the boot layers that they named are made:
 * nodes may ask for one long after that, and it must have the same bytes. Kept as the records of tars are.
 */
export class BootRecords implements Disposable {
  readonly #recent = new BoundedMap<{ readonly answer: BootAnswer | undefined }>({
    maxEntries: MAX_IN_MEMORY,
  });
  /** By repository and digest of a layer or config: the image, if there is one. */
  readonly #images = new BoundedMap<{ readonly image: Digest | undefined }>({
    maxEntries: MAX_BLOBS_IN_MEMORY,
  });
  readonly #file: RecordFile;
  readonly #find: StatementSync;
  readonly #findBlob: StatementSync;
  readonly #put: StatementSync;
  readonly #improve: StatementSync;
  readonly #rows: BoundedRows;

  private constructor(file: RecordFile, storeBytes: number) {
    this.#file = file;
    this.#rows = new BoundedRows(file, 'boots', { storeBytes, rowBytes: ROW_BYTES });
    this.#find = file.prepare('SELECT layer, recipe FROM boots WHERE repository = ? AND image = ?');
    this.#findBlob = file.prepare(
      'SELECT image FROM boots WHERE repository = ? AND layer = ? ' +
        'UNION SELECT image FROM boots WHERE repository = ? AND config = ? LIMIT 1',
    );
    this.#put = file.prepare(
      'INSERT OR IGNORE INTO boots (repository, image, layer, config, recipe) VALUES (?, ?, ?, ?, ?)',
    );
    this.#improve = file.prepare(
      'UPDATE boots SET layer = ?, config = ?, recipe = ? ' +
        'WHERE repository = ? AND image = ? AND layer IS NULL',
    );
  }

  static open(path: string, { storeBytes, ...shared }: RecordsOptions): BootRecords {
    return RecordFile.open(
      path,
      { kind: 'boot', schema: SCHEMA, ...shared },
      (file) => new BootRecords(file, storeBytes),
    );
  }

  /** What tags answer an image with. @param image its manifest, for one platform */
  find(target: Target, image: Digest): BootAnswer | undefined {
    const key = `${targetKey(target)} ${image}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent.answer;
    const row = this.#file.read(() => ({ found: this.#find.get(targetKey(target), image) }));
    if (row === undefined) return undefined;
    const answer = row.found === undefined ? undefined : parseRow(row.found);
    this.#recent.set(key, { answer });
    return answer;
  }

  /** The recipe of a boot layer, or of the image whose config this is. */
  findBlob(target: Target, digest: Digest): BootRecipe | undefined {
    const repository = targetKey(target);
    const key = `${repository} ${digest}`;
    let known = this.#images.get(key);
    if (known === undefined) {
      const row = this.#file.read(() => ({
        found: this.#findBlob.get(repository, digest, repository, digest),
      }));
      if (row === undefined) return undefined;
      // Most requests are for other blobs: that there is none is remembered too.
      known = { image: row.found?.['image'] as Digest | undefined };
      this.#images.set(key, known);
    }
    const answer = known.image === undefined ? undefined : this.find(target, known.image);
    return answer === 'none' ? undefined : answer;
  }

  /**
   * Keeps an answer, unless there is one; only a boot layer takes the place of none. @returns what counts
   * now
   */
  put(target: Target, image: Digest, answer: BootAnswer): BootAnswer {
    const repository = targetKey(target);
    const { layer, config, recipe } =
      answer === 'none'
        ? { layer: null, config: null, recipe: null }
        : {
            layer: answer.layer.digest,
            config: answer.config.digest,
            recipe: deflateRawSync(encodeRecipe(answer)),
          };
    this.#recent.delete(`${repository} ${image}`);
    for (const digest of [layer, config]) if (digest !== null) this.#images.delete(`${repository} ${digest}`);
    this.#file.write(() => {
      if (layer !== null) this.#improve.run(layer, config, recipe, repository, image);
      this.#rows.added(this.#put.run(repository, image, layer, config, recipe).changes);
    });
    return this.find(target, image) ?? answer;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** `undefined` if the row is damaged. */
function parseRow({ layer, recipe }: Record<string, unknown>): BootAnswer | undefined {
  if (layer === null) return 'none';
  if (!(recipe instanceof Uint8Array)) return undefined;
  try {
    return decodeRecipe(inflateRawSync(recipe, { maxOutputLength: MAX_RECIPE_BYTES }));
  } catch {
    // Not what the proxy wrote.
    return undefined;
  }
}
