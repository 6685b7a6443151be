import { SpandrelError } from '../core/errors.ts';
import { parseTarHeader, TAR_BLOCK_BYTES } from './tar-header.ts';

/** Extended headers of the one entry that follows. */
const OF_NEXT_ENTRY = 'xLK';

/**
 * The headers of one entry without global ones before them, which Go's readers ignore, and others apply to
 * all entries that follow.
 * @param headers from the end of one entry to the data of the next; may be returned in part
 * @throws SpandrelError TAR_INVALID if they are no such headers
 */
export function dropGlobalHeaders(headers: Uint8Array): Uint8Array {
  let start = 0;
  for (let at = 0; at + TAR_BLOCK_BYTES <= headers.length;) {
    const { typeflag, size } = parseTarHeader(headers.subarray(at, at + TAR_BLOCK_BYTES));
    if (typeflag !== 'g' && !OF_NEXT_ENTRY.includes(typeflag)) return headers.subarray(start);
    at += TAR_BLOCK_BYTES * (1 + Math.ceil(Number(size) / TAR_BLOCK_BYTES));
    if (typeflag === 'g') start = at;
  }
  throw new SpandrelError('TAR_INVALID', 'an entry of a tar has no header');
}
