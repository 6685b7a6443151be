import { cleanPath, type RawText } from './raw-text.ts';
import type { TocRecords } from './toc-records.ts';
import type { TocEntry } from './ztoc.ts';

/** Tells of the first entry at each path that somebody waits for, during a build. Costs nothing until a first path is asked for. */
export class PathWatch {
  readonly #onFound: (path: RawText, entry: TocEntry) => void;
  readonly #waiting = new Set<RawText>();
  /** Number of the first entry at each path. */
  #seen: Map<RawText, number> | undefined;
  #entries: TocRecords | undefined;

  constructor(onFound: (path: RawText, entry: TocEntry) => void) {
    this.#onFound = onFound;
  }

  /** The next entry, with its number; `entries` has it already. */
  add(entry: TocEntry, index: number, entries: TocRecords): void {
    this.#entries = entries;
    if (this.#seen === undefined) return;
    const path = cleanPath(entry.name);
    if (!this.#seen.has(path)) this.#seen.set(path, index);
    if (this.#waiting.delete(path)) this.#onFound(path, entry);
  }

  /** @param path cleaned */
  find(path: RawText): void {
    this.#seen ??= this.#collectSeen();
    const index = this.#seen.get(path);
    const entry = index === undefined ? undefined : this.#entries?.at(index);
    if (entry === undefined) this.#waiting.add(path);
    else this.#onFound(path, entry);
  }

  #collectSeen(): Map<RawText, number> {
    const seen = new Map<RawText, number>();
    for (let index = 0; index < (this.#entries?.length ?? 0); index++) {
      const path = cleanPath(this.#entries?.nameAt(index) ?? ('' as RawText));
      if (!seen.has(path)) seen.set(path, index);
    }
    return seen;
  }
}
