import type { PathOrder } from './path-order.ts';
import { parseRawText, printRawText, type RawText } from '../tar/raw-text.ts';

export interface ListFilesQuery {
  /** Only paths that start with it. `./` and slashes at its start are ignored. */
  readonly prefix: RawText;
  /** A path, or the `next` of the page before. */
  readonly after?: RawText | undefined;
  /** At least 1. */
  readonly limit: number;
}

/** Marks a cursor that holds a place instead of a path: no path starts with NUL. */
const PLACE_MARK = '\0';

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
  if (!after.startsWith(PLACE_MARK)) return order.upperBound(after.replace(/^(?:\.?\/)+/, ''));
  const place = Number(after.slice(PLACE_MARK.length));
  return Number.isSafeInteger(place) && place >= 0 ? place : order.length;
}

/**
 * A path if it is unambiguous; else the number of a place: for equal paths and for paths that cannot be
 * printed.
 */
function cursorAfter(order: PathOrder, place: number): RawText {
  const path = order.pathAt(place);
  const isUsable =
    path !== '' && parseRawText(printRawText(path)) === path && order.upperBound(path) === place + 1;
  return isUsable ? path : (`${PLACE_MARK}${place + 1}` as RawText);
}
