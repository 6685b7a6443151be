import type { Digest } from '../../core/digest.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { BootProfile } from '../boot-profile.ts';
import type { TouchedFile } from './lay-reads.ts';

/** What one start tells. */
export interface ObservedStart {
  /** Layers that it could read from. */
  readonly layers: readonly Digest[];
  /** In the order of first touch. */
  readonly touched: readonly Omit<TouchedFile, 'order'>[];
  /** Files of the profile and of the boot layer that the start could read, with their sizes. */
  readonly present: ReadonlyMap<RawText, number>;
  /** The files of its boot layer: nothing shows whether it has read them. */
  readonly served: readonly RawText[];
}

/** Sums over starts. The newest start weighs 1, the one before {@link DECAY}, and so on. */
export interface FileRecord {
  readonly path: RawText;
  bytes: number;
  /** Starts that have read the file, as far as that can be known. */
  reads: number;
  /** Starts that could have read it. */
  chances: number;
  /** Of those that have read it. */
  readShares: number;
  /** Its place in the order of first touch, of those that have read it from its layer. */
  places: number;
  /** Number of the last start that has read it, or got it in its boot layer. */
  lastStart: number;
}

/** After so many starts, one weighs half as much. */
const HALF_LIFE_STARTS = 16;
const DECAY = 2 ** (-1 / HALF_LIFE_STARTS);
/** Files that were not read in so many starts are forgotten. */
const MAX_IDLE_STARTS = 8 * HALF_LIFE_STARTS;
/** Old evidence that nothing could renew keeps this weight. */
const MIN_CHANCES = 0.1;
export const MAX_PROFILE_FILES = 10_000;
const MAX_PATH_BYTES = 2 ** 20;
const MAX_LAYERS = 256;

/**
 * What starts of one repository have read, file by file. A file's share is that of the starts that could have
 * read it: a new version of the image, or a node that has some of its layers, does not change the shares of
 * files that it lacks.
 */
export class RepositoryProfile {
  #starts = 0;
  #files = new Map<RawText, FileRecord>();
  /** Weights of the starts that could read from a layer; the one that was used last comes last. */
  readonly #layers = new Map<Digest, number>();

  /** The records are kept. */
  static restore(parts: {
    readonly starts: number;
    readonly files: Iterable<FileRecord>;
    readonly layers: Iterable<readonly [Digest, number]>;
  }): RepositoryProfile {
    const profile = new RepositoryProfile();
    profile.#starts = parts.starts;
    for (const file of parts.files) profile.#files.set(file.path, file);
    for (const [layer, weight] of parts.layers) profile.#layers.set(layer, weight);
    profile.#trim();
    return profile;
  }

  /** As if the starts of an exported profile had been seen here. */
  static from({ starts, files }: BootProfile): RepositoryProfile {
    const weight = (1 - DECAY ** starts) / (1 - DECAY);
    const records = files.map(({ path, bytes, startShare, readShare }, place): FileRecord => {
      const reads = startShare * weight;
      const sums = { readShares: reads * readShare, places: reads * place };
      return { path, bytes, reads, chances: weight, ...sums, lastStart: starts };
    });
    return RepositoryProfile.restore({ starts, files: records, layers: [] });
  }

  get starts(): number {
    return this.#starts;
  }

  get paths(): Iterable<RawText> {
    return this.#files.keys();
  }

  get files(): Iterable<FileRecord> {
    return this.#files.values();
  }

  get layers(): Iterable<readonly [Digest, number]> {
    return this.#layers;
  }

  learn({ layers, touched, present, served }: ObservedStart): void {
    // Of a file that is new here: how many starts could have read it, and have not.
    const before = Math.max(
      Math.min(1, this.#starts) / DECAY,
      ...layers.map((layer) => this.#layers.get(layer) ?? 0),
    );
    this.#starts++;
    const read = new Map<
      RawText,
      { readonly bytes: number; readonly readShare: number; readonly place?: number }
    >();
    for (const [place, { path, bytes, readShare }] of touched.entries())
      // The files of a boot layer were read before.
      read.set(path, { bytes, readShare, place: served.length + place });
    const hidden = new Set(served);
    for (const path of served) {
      const record = this.#files.get(path);
      // What the start has read of the layers below was for files beside it.
      if (record !== undefined) read.delete(path);
      const bytes = present.get(path);
      if (record !== undefined) age(record, this.#starts);
      else if (bytes !== undefined) read.set(path, { bytes, readShare: 1 });
    }
    for (const path of present.keys()) {
      const record = this.#files.get(path);
      if (record !== undefined && !read.has(path) && !hidden.has(path)) decay(record);
    }
    for (const [path, { bytes, readShare, place }] of read) {
      const record = this.#files.get(path) ?? newRecord(path, before);
      const places = place ?? meanPlace(record) ?? touched.length;
      decay(record);
      record.bytes = bytes;
      record.reads += 1;
      record.readShares += readShare;
      record.places += places;
      record.lastStart = this.#starts;
      this.#files.set(path, record);
    }
    for (const layer of layers) {
      const weight = (this.#layers.get(layer) ?? 0) * DECAY + 1;
      this.#layers.delete(layer);
      this.#layers.set(layer, weight);
    }
    this.#trim();
  }

  /** For those who use it. */
  describe(): BootProfile {
    const inOrder = [...this.#files.values()]
      .map((record) => ({ record, place: meanPlace(record) ?? 0 }))
      .toSorted((a, b) => a.place - b.place);
    const files = inOrder.map(({ record: { path, bytes, reads, chances, readShares } }) => ({
      path,
      startShare: Math.min(1, reads / chances),
      readShare: Math.min(1, readShares / reads),
      bytes,
      evidence: chances,
    }));
    return { starts: this.#starts, files };
  }

  #trim(): void {
    for (const [path, { lastStart }] of this.#files)
      if (lastStart < this.#starts - MAX_IDLE_STARTS) this.#files.delete(path);
    const [oldest] = this.#layers.keys();
    if (this.#layers.size > MAX_LAYERS && oldest !== undefined) this.#layers.delete(oldest);
    const pathBytes = [...this.#files.keys()].reduce((sum, path) => sum + path.length, 0);
    if (this.#files.size <= MAX_PROFILE_FILES && pathBytes <= MAX_PATH_BYTES) return;
    const likely = [...this.#files.values()].toSorted(
      (a, b) => b.reads / b.chances - a.reads / a.chances || a.places / a.reads - b.places / b.reads,
    );
    let kept = 0;
    const most = likely.filter(({ path }, place) => {
      kept += path.length;
      return place < MAX_PROFILE_FILES && kept <= MAX_PATH_BYTES;
    });
    this.#files = new Map(most.map((record) => [record.path, record]));
  }
}

function newRecord(path: RawText, chances: number): FileRecord {
  return { path, bytes: 0, reads: 0, chances, readShares: 0, places: 0, lastStart: 0 };
}

/** Makes room for a further start that could have read the file. */
function decay(record: FileRecord): void {
  record.chances = record.chances * DECAY + 1;
  record.reads *= DECAY;
  record.readShares *= DECAY;
  record.places *= DECAY;
}

/** A start did not show whether it reads the file. Shares stay; the next start that shows it weighs more. */
function age(record: FileRecord, start: number): void {
  record.lastStart = start;
  if (record.chances * DECAY < MIN_CHANCES) return;
  record.chances *= DECAY;
  record.reads *= DECAY;
  record.readShares *= DECAY;
  record.places *= DECAY;
}

function meanPlace({ places, reads }: FileRecord): number | undefined {
  return reads === 0 ? undefined : places / reads;
}
