import { USED_WINDOW, WINDOW_BYTES } from './layout';
import { outputNext, setSpanStart, spanStart } from './state';

/** No match of the span has reached before its start. */
export let isWindowUnused: bool = true;

/** A span begins with the next output. */
export function beginSpan(): void {
  setSpanStart(outputNext);
  if (!isWindowUnused) memory.fill(USED_WINDOW, 0, WINDOW_BYTES);
  isWindowUnused = true;
}

/** The output has been moved down by this many bytes. */
export function moveSpan(bytes: i32): void {
  setSpanStart(max(0, spanStart - bytes));
}

/** A match at `target` reaches before the span: keep what it takes from there, to the byte, so that the rest stays zeros. */
export function noteWindowUse(target: i32, distance: i32, length: i32): void {
  isWindowUnused = false;
  const reach = distance - (target - spanStart);
  let from = target - distance;
  let to = USED_WINDOW + WINDOW_BYTES - reach;
  // What it takes from behind the start, the span has made itself.
  let left = min(length, reach);
  do {
    const wanted = i8x16.lt_u(
      i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      i8x16.splat(<i8>min(left, 16)),
    );
    v128.store(to, v128.bitselect(v128.load(from), v128.load(to), wanted));
    from += 16;
    to += 16;
    left -= 16;
  } while (left > 0);
}
