import { type Digest, digestHex } from '../core/digest.ts';
import { isOffset, OWN_FIELDS, PackedSpans, type SpannedLayer } from './packed-spans.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';

const AT = {
  frameCompressedStart: OWN_FIELDS,
  frameUncompressedStart: OWN_FIELDS + 8,
  hasFrame: OWN_FIELDS + 16,
  digest: OWN_FIELDS + 17,
} as const;
const DIGEST_BYTES = 32;
const RECORD_BYTES = AT.digest + DIGEST_BYTES;

/** The spans of a zTOC, or those of a layer that cannot have a zTOC. */
export class SpanTable extends PackedSpans<Span> {
  constructor() {
    super(RECORD_BYTES);
  }

  /**
   * The table that {@link SpanTable.encode} returned for such a layer; `bytes` is kept.
   * @throws SpandrelError INDEX_MALFORMED
   */
  static decode(bytes: Uint8Array, layer: SpannedLayer): SpanTable {
    const table = new SpanTable();
    table.take(bytes, layer);
    return table;
  }

  /** Appends the next span; its id must equal the table's length. */
  add(span: Span): void {
    const at = this.addCommon(span);
    const { records } = this;
    records.writeDoubleLE(span.frame?.compressedStart ?? 0, at + AT.frameCompressedStart);
    records.writeDoubleLE(span.frame?.uncompressedStart ?? 0, at + AT.frameUncompressedStart);
    records.writeUInt8(span.frame === undefined ? 0 : 1, at + AT.hasFrame);
    records.write(digestHex(span.digest), at + AT.digest, 'hex');
  }

  protected override decodeOwn(common: ReadSpan, at: number): Span {
    const { records } = this;
    const hex = records.toString('hex', at + AT.digest, at + AT.digest + DIGEST_BYTES);
    const span = { ...common, digest: `sha256:${hex}` as Digest };
    if (records.readUInt8(at + AT.hasFrame) === 0) return span;
    const compressedStart = records.readDoubleLE(at + AT.frameCompressedStart);
    const uncompressedStart = records.readDoubleLE(at + AT.frameUncompressedStart);
    return { ...span, frame: { compressedStart, uncompressedStart } };
  }

  protected override findOwnProblem({ frame, uncompressed }: Span): string | undefined {
    if (frame === undefined) return undefined;
    if (!isOffset(frame.compressedStart) || !isOffset(frame.uncompressedStart))
      return 'an offset is out of range';
    return frame.uncompressedStart <= uncompressed.start ? undefined : 'spans are out of order';
  }
}
