import { cleanPath, type RawText } from '../tar/raw-text.ts';
import type { TocRecords } from '../index/toc-records.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/**
 * Finds entries at requested paths during a build: the last one seen so far, else the first one to come.
 * Costs nothing until the first request.
 */
export class PathWatch {
  readonly #onFound: (path: RawText, entry: TocEntry) => void;
  readonly #waiting = new Set<RawText>();
  /** Number of the last entry at each path so far. */
  #seen: Map<RawText, number> | undefined;
  #entries: TocRecords | undefined;

  constructor(onFound: (path: RawText, entry: TocEntry) => void) {
    this.#onFound = onFound;
  }

  /** Adds the next entry with its number; `entries` contains it already. */
  add(entry: TocEntry, index: number, entries: TocRecords): void {
    this.#entries = entries;
    if (this.#seen === undefined) return;
    const path = cleanPath(entry.name);
    this.#seen.set(path, index);
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
      seen.set(cleanPath(this.#entries?.nameAt(index) ?? ('' as RawText)), index);
    }
    return seen;
  }
}
