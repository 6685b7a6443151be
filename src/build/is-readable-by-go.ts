// RFC 1952, section 2.3.
const FIXED_BYTES = 10;
const FLAGS_AT = 3;
const HAS_EXTRA = 4;
const HAS_NAME = 8;
const HAS_COMMENT = 16;

/** Go's `compress/gzip` reads texts into a buffer of this size, with their NUL. */
const MAX_GO_TEXT_BYTES = 512;

/**
 * False for a valid gzip header that Go refuses because its name or comment has 512 bytes or more. `soci` and
 * the snapshotter read headers with Go's `compress/gzip`.
 */
export function isReadableByGo(header: Uint8Array): boolean {
  const flags = header[FLAGS_AT] ?? 0;
  let at = FIXED_BYTES;
  if (flags & HAS_EXTRA) at += 2 + (header[at] ?? 0) + 256 * (header[at + 1] ?? 0);
  for (const flag of [HAS_NAME, HAS_COMMENT]) {
    if (!(flags & flag)) continue;
    const end = header.indexOf(0, at);
    if (end < 0 || end - at >= MAX_GO_TEXT_BYTES) return false;
    at = end + 1;
  }
  return true;
}
