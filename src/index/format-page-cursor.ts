import { parseRawText, printRawText, type RawText } from '../tar/raw-text.ts';

/** Marks a cursor with a place instead of a name: no name starts with NUL. */
const PLACE_MARK = '\0';

/**
 * Where the page after a name starts: the name, or the number of the next place if the name cannot be
 * printed.
 * @param isUnique false if several entries have the name, so that only the place is exact
 */
export function formatPageCursor(name: RawText, nextPlace: number, isUnique = true): RawText {
  const isExact = isUnique && parseRawText(printRawText(name)) === name;
  return isExact ? name : (`${PLACE_MARK}${nextPlace}` as RawText);
}

/** The place in a cursor, infinite if it is malformed; `undefined` for a cursor with a name. */
export function parsePageCursor(cursor: RawText): number | undefined {
  if (!cursor.startsWith(PLACE_MARK)) return undefined;
  const place = Number(cursor.slice(PLACE_MARK.length));
  return Number.isSafeInteger(place) && place >= 0 ? place : Number.POSITIVE_INFINITY;
}
