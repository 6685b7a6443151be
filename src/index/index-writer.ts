import { closeSync, fsyncSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
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
 * Writes an index file sequentially: windows of read spans as they arrive, the rest at the end. Others can
 * read windows at once. Synchronous, for worker threads. Disposal removes an unfinished file; if the thread
 * is killed before, see {@link filesOfUnfinishedIndex}.
 */
export class IndexWriter implements SpanSink, Disposable {
  readonly spans = new SpanTable();
  readonly readSpans = new ReadSpanTable();
  readonly #path: string;
  readonly #file: number;
  #end = 0;
  /** Windows of `spans`, which only the zTOC contains. */
  #scratch: WindowScratch | undefined;
  #isOpen = true;

  /** @throws SpandrelError STORE_FULL, STORE_FAILED; every method may throw these */
  constructor(path: string) {
    this.#path = path;
    this.#file = withStoreErrors(() => openSync(path, 'w+'));
  }

  /** Stores the window of the next span. */
  addWindow(window: Uint8Array): void {
    withStoreErrors(() => {
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

  /** Copies the window of a span into `target`, which must be zeroed. A span without window leaves it so. */
  readWindow(spanId: number, target: Uint8Array): void {
    withStoreErrors(() => this.#scratch?.read(spanId, target));
  }

  /** Completes the file and syncs it to disk. */
  finish(summary: LayerSummary, entries: TocRecords): void {
    const { spans, readSpans } = this;
    const footer = { summary, spans, readSpans, entries, order: sortByPath(entries) };
    for (const part of encodeIndexFooter(footer, this.#end)) this.#append(part);
    withStoreErrors(() => {
      ftruncateSync(this.#file, this.#end);
      fsyncSync(this.#file);
      this.#close();
    });
  }

  #append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const written = withStoreErrors(() => writeSync(this.#file, bytes, at, bytes.length - at, this.#end));
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
      // The error of the build matters more. The next start removes what is left.
    }
  }

  /**
   * Marks the file closed first: even if closing fails, the descriptor is free and may soon be another
   * file's.
   */
  #close(): void {
    this.#isOpen = false;
    closeSync(this.#file);
  }
}

/** The files that an {@link IndexWriter} may leave if its thread is killed. */
export function filesOfUnfinishedIndex(path: string): string[] {
  return [path, scratchPathOf(path)];
}

function scratchPathOf(path: string): string {
  return `${path}.windows`;
}

function withStoreErrors<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw storeFault(error, 'write an index');
  }
}
