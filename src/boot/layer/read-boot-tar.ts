import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { dropGlobalHeaders } from '../../tar/drop-global-headers.ts';
import { TAR_END, tarPadding } from '../../tar/write-tar.ts';
import type { BootPlan, CopiedEntry } from './boot-plan.ts';

/** Reads a range of a decompressed layer. */
export type ReadLayer = (layer: Digest, range: ByteRange) => AsyncIterable<Uint8Array>;

/**
 * The tar of a boot layer: entries of other layers, byte for byte. Holds the headers of one entry and a chunk
 * of `read`.
 * @throws SpandrelError LAYER_CORRUPT if `read` yields too few bytes; its errors
 */
export async function* readBootTar(plan: BootPlan, read: ReadLayer): AsyncGenerator<Uint8Array, void, void> {
  for (const entry of plan.entries) {
    const layer = plan.layers[entry.layer];
    if (layer === undefined) throw new SpandrelError('INTERNAL', 'a boot layer copies from no layer');
    yield* readEntry(entry, read(layer, { start: entry.start, end: entry.end }));
    yield tarPadding(entry.end - entry.start);
  }
  yield TAR_END;
}

async function* readEntry(
  { start, dataStart, end }: CopiedEntry,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const headers = Buffer.alloc(dataStart - start);
  let have = 0;
  let done = 0;
  for await (const chunk of chunks) {
    done += chunk.length;
    const taken = chunk.subarray(0, headers.length - have);
    headers.set(taken, have);
    have += taken.length;
    if (have < headers.length) continue;
    if (taken.length > 0) yield dropGlobalHeaders(headers);
    if (taken.length < chunk.length) yield chunk.subarray(taken.length);
  }
  if (done !== end - start) throw new SpandrelError('LAYER_CORRUPT', 'a layer ends within an entry');
}
