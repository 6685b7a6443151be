import { isOffset, OWN_FIELDS, PackedSpans, type SpannedLayer } from './packed-spans.ts';
import type { ReadSpan } from '../ztoc/span.ts';

/**
 * Position of the packed window of a read span in the index file. `bytes` is 0 if the span needs no window.
 */
export interface WindowRecord {
  readonly fileOffset: number;
  readonly bytes: number;
  /** CRC-32 of the stored bytes. */
  readonly crc32: number;
}

export const NO_WINDOW: WindowRecord = { fileOffset: 0, bytes: 0, crc32: 0 };

const AT = { windowOffset: OWN_FIELDS, windowBytes: OWN_FIELDS + 8, windowCrc32: OWN_FIELDS + 12 } as const;
const RECORD_BYTES = OWN_FIELDS + 16;

/** The read spans of a gzip layer, with the positions of their windows. */
export class ReadSpanTable extends PackedSpans<ReadSpan> {
  /** Where the windows end in the file. */
  #windowsEnd = Number.MAX_SAFE_INTEGER;

  constructor() {
    super(RECORD_BYTES);
  }

  /**
   * The table that {@link ReadSpanTable.encode} returned for such a layer; `bytes` is kept.
   * @throws SpandrelError INDEX_MALFORMED
   */
  static decode(bytes: Uint8Array, layer: SpannedLayer & { readonly windowsEnd: number }): ReadSpanTable {
    const table = new ReadSpanTable();
    table.#windowsEnd = layer.windowsEnd;
    table.take(bytes, layer);
    return table;
  }

  /** Appends the next span; its id must equal the table's length. */
  add(span: ReadSpan, window: WindowRecord): void {
    const at = this.addCommon(span);
    this.records.writeDoubleLE(window.fileOffset, at + AT.windowOffset);
    this.records.writeUInt32LE(window.bytes, at + AT.windowBytes);
    this.records.writeUInt32LE(window.crc32, at + AT.windowCrc32);
  }

  window(id: number): WindowRecord {
    return id >= 0 && id < this.length ? this.#window(id * RECORD_BYTES) : NO_WINDOW;
  }

  #window(at: number): WindowRecord {
    return {
      fileOffset: this.records.readDoubleLE(at + AT.windowOffset),
      bytes: this.records.readUInt32LE(at + AT.windowBytes),
      crc32: this.records.readUInt32LE(at + AT.windowCrc32),
    };
  }

  protected override decodeOwn(common: ReadSpan): ReadSpan {
    return common;
  }

  protected override findOwnProblem(_span: ReadSpan, at: number): string | undefined {
    const { fileOffset, bytes } = this.#window(at);
    const isThere = isOffset(fileOffset) && fileOffset + bytes <= this.#windowsEnd;
    return isThere ? undefined : 'a window lies outside the file';
  }
}
