import type { RawText } from '../tar/raw-text.ts';
import { formatPageCursor, parsePageCursor } from './format-page-cursor.ts';
import type { PathOrder } from './path-order.ts';

export interface ListFilesQuery {
  /** Only paths that start with it. `./` and slashes at its start are ignored. */
  readonly prefix: RawText;
  /** A path, or the `next` of the page before. */
  readonly after?: RawText | undefined;
  /** At least 1. */
  readonly limit: number;
}

/** The places of the path order that belong to a page, and the `after` of the next page if there is one. */
export function planFilePage(order: PathOrder, query: ListFilesQuery): { places: number[]; next?: RawText } {
  const prefix = query.prefix.replace(/^(?:\.?\/)+/, '');
  const first = Math.max(
    order.lowerBound(prefix),
    query.after === undefined ? 0 : placeAfter(order, query.after),
  );
  const places: number[] = [];
  for (let place = first; place < order.length && order.pathAt(place).startsWith(prefix); place++) {
    if (places.length === query.limit) return { places, next: cursorAfter(order, place - 1) };
    places.push(place);
  }
  return { places };
}

function placeAfter(order: PathOrder, after: RawText): number {
  return parsePageCursor(after) ?? order.upperBound(after.replace(/^(?:\.?\/)+/, ''));
}

function cursorAfter(order: PathOrder, place: number): RawText {
  const path = order.pathAt(place);
  return formatPageCursor(path, place + 1, path !== '' && order.upperBound(path) === place + 1);
}
