import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { crc32 } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { encodeIndexFooter } from './index-footer.ts';
import type { LayerSummary } from './layer-summary.ts';
import { sortByPath } from './path-order.ts';
import type { Span } from './span.ts';
import { NO_WINDOW, SpanTable, type WindowRecord } from './span-table.ts';
import type { TocRecords } from './toc-records.ts';
import { packWindow, unpackWindowSync } from './window-file.ts';

/** Where an index is written until it is complete. */
export function unfinishedPath(indexPath: string): string {
  return `${indexPath}.tmp`;
}

/**
 * Writes an index file from front to back: windows as they come up, the rest at the end. Others can read the windows at once.
 * Synchronous, for worker threads. Dispose of it; what is not finished by then is removed.
 */
export class IndexWriter implements Disposable {
  readonly spans = new SpanTable();
  readonly #path: string;
  readonly #file: number;
  #end = 0;
  /** Of the span that has begun. */
  #window: WindowRecord = NO_WINDOW;
  #isOpen = true;

  /** @throws SpandrelError STORE_FAILED, as every method does */
  constructor(indexPath: string) {
    this.#path = indexPath;
    this.#file = storing(() => openSync(unfinishedPath(indexPath), 'w+'));
  }

  /** The window of the span that is added next. */
  addWindow(window: Uint8Array): void {
    const stored = packWindow(window);
    this.#window = { fileOffset: this.#end, bytes: stored.length, crc32: crc32(stored) };
    this.#append(stored);
  }

  /** @returns where the span's window is */
  addSpan(span: Span): WindowRecord {
    const window = this.#window;
    this.spans.add(span, window);
    this.#window = NO_WINDOW;
    return window;
  }

  /** Write the window of a span into `target`; nothing if it has none. */
  readWindow(spanId: number, target: Uint8Array): void {
    const record = this.spans.window(spanId);
    if (record.bytes === 0) return;
    const stored = Buffer.allocUnsafe(record.bytes);
    const bytesRead = storing(() => readSync(this.#file, stored, 0, stored.length, record.fileOffset));
    target.set(unpackWindowSync(stored.subarray(0, bytesRead), record));
  }

  /** Complete the file, make sure that it is on the disk, and give it its name. */
  finish(summary: LayerSummary, entries: TocRecords): void {
    const footer = { summary, spans: this.spans, entries, order: sortByPath(entries) };
    for (const part of encodeIndexFooter(footer, this.#end)) this.#append(part);
    storing(() => {
      ftruncateSync(this.#file, this.#end);
      fsyncSync(this.#file);
      closeSync(this.#file);
      this.#isOpen = false;
      renameSync(unfinishedPath(this.#path), this.#path);
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
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#file);
    rmSync(unfinishedPath(this.#path), { force: true });
  }
}

function storing<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw new SpandrelError('STORE_FAILED', 'the index file could not be written', { cause: error });
  }
}
