import { crc32 } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { decodeIndexFooter, decodeIndexTrailer, encodeIndexFooter } from '../../src/index/index-footer.ts';
import type { LayerSummary } from '../../src/index/layer-summary.ts';
import { ReadSpanTable } from '../../src/index/read-span-table.ts';
import { SpanTable } from '../../src/index/span-table.ts';
import { TocRecords } from '../../src/index/toc-records.ts';

const SUMMARY: LayerSummary = {
  layerDigest: digestOf('layer'),
  layerBytes: 0,
  compression: 'none',
  diffId: digestOf('diff'),
  uncompressedBytes: 0,
  archiveBytes: 0,
  spanBytes: 4096,
  readSpanBytes: 65_536,
  maxSkippedBytes: 0,
  reason: { code: 'TAR_INVALID', message: 'none' },
  spanCount: 0,
  fileCount: 0,
};

/** The summary in an index file without spans and files. */
function readBack(summary: LayerSummary): LayerSummary {
  const spans = { spans: new SpanTable(), readSpans: new ReadSpanTable() };
  const parts = { summary, ...spans, entries: new TocRecords(), order: new Int32Array(0) };
  const file = Buffer.concat(encodeIndexFooter(parts, 0));
  const trailer = decodeIndexTrailer(file.subarray(-32), file.length);
  const footer = Buffer.from(file.subarray(0, -32));
  return decodeIndexFooter(footer, trailer, crc32(footer)).summary;
}

describe('the footer of an index file', () => {
  it('the footer of an index file decodes to what was encoded', () => {
    expect(readBack(SUMMARY)).toEqual(SUMMARY);
  });

  it.each([
    ['more files than it has', { fileCount: 1 }],
    ['more spans than it has', { spanCount: 1 }],
    ['more output than its spans', { uncompressedBytes: 1 }],
    ['a summary of a megabyte', { reason: { code: 'TAR_INVALID' as const, message: 'x'.repeat(2 ** 20) } }],
  ])('the footer of an index file is refused when it claims %s', (_, change) => {
    expect(() => readBack({ ...SUMMARY, ...change })).toThrow(
      expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error,
    );
  });
});
