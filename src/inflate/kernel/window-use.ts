import { USED_WINDOW, WINDOW_BYTES } from './layout';
import { outputNext, setSpanStart, spanStart } from './state';

/** True if no match of the span reaches before its start. */
export let isWindowUnused: bool = true;

/** Starts a span at the next output. */
export function beginSpan(): void {
  setSpanStart(outputNext);
  if (!isWindowUnused) memory.fill(USED_WINDOW, 0, WINDOW_BYTES);
  isWindowUnused = true;
}

/** Adjusts the span to output that was moved down by this many bytes. */
export function moveSpan(bytes: i32): void {
  setSpanStart(max(0, spanStart - bytes));
}

/**
 * Copies the bytes that a match at `target` takes from before the span, and no others, to the used window.
 */
export function noteWindowUse(target: i32, distance: i32, length: i32): void {
  isWindowUnused = false;
  const reach = distance - (target - spanStart);
  let from = target - distance;
  let to = USED_WINDOW + WINDOW_BYTES - reach;
  // Bytes after the start are the span's own output.
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
