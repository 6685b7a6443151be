import type { PathOrder } from './path-order.ts';
import { parseRawText, printRawText, type RawText } from '../tar/raw-text.ts';

export interface ListFilesQuery {
  /** Only paths that begin with it; `./` and slashes in front of it mean nothing. */
  readonly prefix: RawText;
  /** A path, or the `next` of the page before. */
  readonly after?: RawText | undefined;
  /** At least 1. */
  readonly limit: number;
}

/** No path has a NUL in front. */
const PLACE_MARK = '\0';

/** Which places of the order a page has, and the `after` of the next page if there is one. */
export function planFilePage(order: PathOrder, query: ListFilesQuery): { places: number[]; next?: RawText } {
  const prefix = query.prefix.replace(/^(?:\.?\/)+/, '');
  const first = Math.max(
    order.lowerBound(prefix),
    query.after === undefined ? 0 : placeAfter(order, query.after),
  );
  const places: number[] = [];
  for (let place = first; place < order.length && order.pathAt(place).startsWith(prefix); place++) {
    if (places.length === query.limit) return { places, next: cursorBehind(order, place - 1) };
    places.push(place);
  }
  return { places };
}

function placeAfter(order: PathOrder, after: RawText): number {
  if (!after.startsWith(PLACE_MARK)) return order.upperBound(after.replace(/^(?:\.?\/)+/, ''));
  const place = Number(after.slice(PLACE_MARK.length));
  return Number.isSafeInteger(place) && place >= 0 ? place : order.length;
}

/** A path where that leads on, else the number of a place: behind one of several equal paths, and where a path cannot be printed. */
function cursorBehind(order: PathOrder, place: number): RawText {
  const path = order.pathAt(place);
  const isUsable =
    path !== '' && parseRawText(printRawText(path)) === path && order.upperBound(path) === place + 1;
  return isUsable ? path : (`${PLACE_MARK}${place + 1}` as RawText);
}
