import type { StatementSync } from 'node:sqlite';
import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { BoundedRows, RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { type BootRecipe, decodeRecipe, encodeRecipe } from './boot-recipe.ts';

/** What tags answer an image with: its boot layer, or none. */
export type BootAnswer = BootRecipe | 'none';

/** Where an answer was given. */
interface Place {
  /** As `targetKey`. */
  readonly repository: string;
  readonly image: Digest;
}

/** A recipe has some thousand entries. */
const MAX_IN_MEMORY = 500;
const MAX_BLOBS_IN_MEMORY = 20_000;
/** Several repositories may have the same image. */
const MAX_SAME = 8;
/** Rough size of a recipe, compressed. */
const ROW_BYTES = 8_000;
const MAX_RECIPE_BYTES = 16 * 2 ** 20;
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS boots (id INTEGER PRIMARY KEY, repository TEXT NOT NULL, ' +
  'image TEXT NOT NULL, layer TEXT, config TEXT, recipe BLOB, UNIQUE (repository, image)); ' +
  'CREATE INDEX IF NOT EXISTS boots_of_layer ON boots (layer); ' +
  'CREATE INDEX IF NOT EXISTS boots_of_config ON boots (config)';

/**
 * What tags of a repository have answered for its images, and how the boot layers that they named are made:
 * nodes may ask for one long after that, and it must have the same bytes. Kept as the records of tars are.
 */
export class BootRecords implements Disposable {
  readonly #recent = new BoundedMap<{ readonly answer: BootAnswer | undefined }>({
    maxEntries: MAX_IN_MEMORY,
  });
  /** By digest of a layer or config. Most requests are for other blobs: that there is none is known too. */
  readonly #places = new BoundedMap<readonly Place[]>({
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
      'SELECT repository, image FROM boots WHERE layer = ?1 OR config = ?1 ORDER BY id DESC LIMIT ?2',
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
    return this.#answerAt({ repository: targetKey(target), image });
  }

  #answerAt({ repository, image }: Place): BootAnswer | undefined {
    const key = `${repository} ${image}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent.answer;
    const row = this.#file.read(() => ({ found: this.#find.get(repository, image) }));
    if (row === undefined) return undefined;
    const answer = row.found === undefined ? undefined : parseRow(row.found);
    this.#recent.set(key, { answer });
    return answer;
  }

  /**
   * The recipes of a boot layer, or of images whose config this is, whichever repository they were made for;
   * the newest first. They say nothing about who may have them.
   */
  findBlob(digest: Digest): readonly BootRecipe[] {
    let places = this.#places.get(digest);
    if (places === undefined) {
      const rows = this.#file.read(() => this.#findBlob.all(digest, MAX_SAME));
      if (rows === undefined) return [];
      places = rows.flatMap((row) => toPlace(row) ?? []);
      this.#places.set(digest, places);
    }
    return places.flatMap((place) => {
      const answer = this.#answerAt(place);
      return answer === undefined || answer === 'none' ? [] : [answer];
    });
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
    for (const digest of [layer, config]) if (digest !== null) this.#places.delete(digest);
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

function toPlace({ repository, image }: Record<string, unknown>): Place | undefined {
  const isPlace = typeof repository === 'string' && typeof image === 'string' && isDigest(image);
  return isPlace ? { repository, image } : undefined;
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
