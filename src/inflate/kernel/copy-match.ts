import { PATTERNS } from './layout';

/**
 * For each distance below 16: the lanes that repeat the first `distance` bytes of a vector. Call once per
 * instance.
 */
export function preparePatterns(): void {
  for (let distance = 1; distance < 16; distance++) {
    store<u8>(PATTERNS + distance, 16 % distance);
    for (let lane = 0; lane < 16; lane++) store<u8>(PATTERNS + (distance << 4) + lane, lane % distance);
  }
}

/**
 * Copies `length` bytes from `distance` bytes before `target`, as if byte by byte: source and target may
 * overlap. May overwrite up to 15 bytes after the match.
 */
export function copyMatch(target: i32, distance: i32, length: i32): void {
  const end = target + length;
  let to = target;
  if (distance >= 16) {
    let from = target - distance;
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
    to += 32;
    while (to < end) {
      from += 32;
      v128.store(to, v128.load(from));
      v128.store(to, v128.load(from, 16), 16);
      to += 32;
    }
  } else {
    // Sixteen bytes of the pattern; only whole repetitions of it are used.
    const pattern = i8x16.swizzle(v128.load(target - distance), v128.load(PATTERNS + (distance << 4)));
    const step = 16 - <i32>load<u8>(PATTERNS + distance);
    do {
      v128.store(to, pattern);
      to += step;
    } while (to < end);
  }
}
