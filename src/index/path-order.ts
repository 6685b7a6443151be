import { cleanPath, type RawText } from '../tar/raw-text.ts';
import type { TocRecords } from './toc-records.ts';

/**
 * Numbers of all entries, sorted bytewise by cleaned path; entries at the same path stay in archive order.
 */
export function sortByPath(entries: TocRecords): Int32Array {
  const paths = Array.from({ length: entries.length }, (_, index) => pathOf(entries, index));
  const order = Int32Array.from(paths.keys());
  return order.sort((a, b) => {
    const pathA = paths[a] ?? '';
    const pathB = paths[b] ?? '';
    return pathA < pathB ? -1 : pathA > pathB ? 1 : a - b;
  });
}

/** Finds paths in a table of contents by binary search. */
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

  /** The first place whose path is not less than `path`. */
  lowerBound(path: string): number {
    return this.#search((candidate) => candidate >= path);
  }

  /** The first place whose path is greater than `path`. */
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
