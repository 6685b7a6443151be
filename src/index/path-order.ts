import { cleanPath, type RawText } from '../tar/raw-text.ts';
import type { TocRecords } from './toc-records.ts';

/** Numbers of all entries in the order of their cleaned paths, bytewise; entries of the same path in the order of the archive. */
export function sortByPath(entries: TocRecords): Int32Array {
  const paths = Array.from({ length: entries.length }, (_, index) => pathOf(entries, index));
  const order = Int32Array.from(paths.keys());
  return order.sort((a, b) => {
    const pathA = paths[a] ?? '';
    const pathB = paths[b] ?? '';
    return pathA < pathB ? -1 : pathA > pathB ? 1 : a - b;
  });
}

/** Looks up paths in a table of contents and its order. */
export class PathOrder {
  readonly #entries: TocRecords;
  readonly #order: Int32Array;

  constructor(entries: TocRecords, order: Int32Array) {
    this.#entries = entries;
    this.#order = order;
  }

  get length(): number {
    return this.#order.length;
  }

  /** Number of the entry at a place of the order. */
  entryAt(place: number): number {
    return this.#order[place] ?? -1;
  }

  pathAt(place: number): RawText {
    return pathOf(this.#entries, this.entryAt(place));
  }

  /** First place whose path is not before `path`. */
  lowerBound(path: string): number {
    return this.#search((candidate) => candidate >= path);
  }

  /** First place whose path is behind `path`. */
  upperBound(path: string): number {
    return this.#search((candidate) => candidate > path);
  }

  #search(isFound: (path: string) => boolean): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isFound(this.pathAt(middle))) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function pathOf(entries: TocRecords, index: number): RawText {
  return cleanPath(entries.nameAt(index) ?? ('' as RawText));
}
