import { closeSync, fsyncSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

import { storeFault } from '../blobs/files/store-fault.ts';
import { encodeIndexFooter } from './index-footer.ts';
import type { LayerSummary } from './layer-summary.ts';
import { sortByPath } from './path-order.ts';
import { NO_WINDOW, ReadSpanTable } from './read-span-table.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { SpanSink } from './span-sink.ts';
import { SpanTable } from './span-table.ts';
import type { TocRecords } from './toc-records.ts';
import { packWindow } from './stored-window.ts';
import { WindowScratch } from './window-scratch.ts';

/**
 * Writes an index file from front to back: windows of read spans as they come up, the rest at the end. Others can read the windows
 * at once. Synchronous, for worker threads. Dispose of it: a file that is not finished by then is removed. The thread may be killed
 * before that; see {@link removeUnfinishedIndex}.
 */
export class IndexWriter implements SpanSink, Disposable {
  readonly spans = new SpanTable();
  readonly readSpans = new ReadSpanTable();
  readonly #path: string;
  readonly #file: number;
  #end = 0;
  /** Windows of `spans`, which the zTOC alone has. */
  #scratch: WindowScratch | undefined;
  #isOpen = true;

  /** @throws SpandrelError STORE_FULL, STORE_FAILED, as every method does */
  constructor(path: string) {
    this.#path = path;
    this.#file = storing(() => openSync(path, 'w+'));
  }

  /** The window of the span that is added next. */
  addWindow(window: Uint8Array): void {
    storing(() => {
      this.#scratch ??= new WindowScratch(scratchPathOf(this.#path));
      this.#scratch.write(this.spans.length, window);
    });
  }

  addSpan(span: Span): void {
    this.spans.add(span);
  }

  addReadSpan(span: ReadSpan, window: Uint8Array | undefined): void {
    if (window === undefined) {
      this.readSpans.add(span, NO_WINDOW);
      return;
    }
    const packed = packWindow(window);
    this.readSpans.add(span, { fileOffset: this.#end, bytes: packed.length, crc32: crc32(packed) });
    this.#append(packed);
  }

  /** Write the window of a span into `target`, which is zeroed; nothing if it has none. */
  readWindow(spanId: number, target: Uint8Array): void {
    storing(() => this.#scratch?.read(spanId, target));
  }

  /** Complete the file, and make sure that it is on the disk. */
  finish(summary: LayerSummary, entries: TocRecords): void {
    const { spans, readSpans } = this;
    const footer = { summary, spans, readSpans, entries, order: sortByPath(entries) };
    for (const part of encodeIndexFooter(footer, this.#end)) this.#append(part);
    storing(() => {
      ftruncateSync(this.#file, this.#end);
      fsyncSync(this.#file);
      this.#close();
    });
  }

  #append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const written = storing(() => writeSync(this.#file, bytes, at, bytes.length - at, this.#end));
      at += written;
      this.#end += written;
    }
  }

  [Symbol.dispose](): void {
    const scratch = this.#scratch;
    this.#scratch = undefined;
    try {
      scratch?.[Symbol.dispose]();
      if (!this.#isOpen) return;
      this.#close();
      rmSync(this.#path, { force: true });
    } catch {
      // Why the build has failed matters more. The next start sweeps what cannot be removed.
    }
  }

  /** Even if this fails, the descriptor is free, and may be another file's soon. */
  #close(): void {
    this.#isOpen = false;
    closeSync(this.#file);
  }
}

/** Remove what an {@link IndexWriter} has left. The next start sweeps what cannot be removed. */
export async function removeUnfinishedIndex(path: string): Promise<void> {
  await Promise.allSettled([rm(path, { force: true }), rm(scratchPathOf(path), { force: true })]);
}

function scratchPathOf(path: string): string {
  return `${path}.windows`;
}

function storing<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw storeFault(error, 'write an index');
  }
}
