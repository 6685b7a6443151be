import type { DecodedZtoc } from './decode-ztoc.ts';
import type { Span } from './span.ts';
import { ztocSpanBytes, ztocSpans } from './ztoc-spans.ts';
import { TAR_BLOCK_BYTES } from '../tar/tar-header.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/** With shorter spans, the windows that a build keeps would take many times the size of the layer. */
const MIN_SPAN_BYTES = 4096;

/**
 * Why the snapshotter would refuse to mount with this zTOC, or why we refuse to build with its span size.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function findMountProblem(ztoc: DecodedZtoc): string | undefined {
  if (ztocSpanBytes(ztoc) < MIN_SPAN_BYTES) return `its spans are shorter than ${MIN_SPAN_BYTES} bytes`;
  const emptySpan = findEmptySpan(ztocSpans(ztoc, { start: 0, end: Number.POSITIVE_INFINITY }));
  if (emptySpan !== undefined) return emptySpan;
  const overlap = new OverlapCheck();
  for (const entry of ztoc.entries.toSorted(byOffset)) overlap.add(entry);
  return overlap.problem;
}

/**
 * Finds files that overlap, which the snapshotter refuses at mount (soci-snapshotter
 * `ztoc/ztoc_marshaler.go`, flatbufferToTOC). Entries must be added in archive order, which is the order of
 * their offsets.
 */
export class OverlapCheck {
  #nextHeader = 0;
  #problem: string | undefined;

  get problem(): string | undefined {
    return this.#problem;
  }

  add({ uncompressedOffset, uncompressedSize, name }: TocEntry): void {
    if (this.#nextHeader > uncompressedOffset) {
      this.#problem ??= `an entry overlaps the next one, ${JSON.stringify(name.slice(0, 200))}`;
    }
    this.#nextHeader = Math.ceil((uncompressedOffset + uncompressedSize) / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
  }
}

/**
 * Why the snapshotter would refuse the checkpoints: every span but the last must have bytes in both streams
 * (soci-snapshotter `fs/span-manager/span_manager.go`, buildAllSpans).
 */
export function findEmptySpan(
  spans: Iterable<Pick<Span, 'id' | 'compressed' | 'uncompressed'>>,
): string | undefined {
  let emptyId: number | undefined;
  for (const { id, compressed, uncompressed } of spans) {
    if (emptyId !== undefined) return `span ${emptyId} is empty`;
    if (compressed.start >= compressed.end || uncompressed.start >= uncompressed.end) emptyId = id;
  }
  return undefined;
}

function byOffset(a: TocEntry, b: TocEntry): number {
  return a.uncompressedOffset - b.uncompressedOffset;
}
