import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { SpanTable } from '../../src/index/span-table.ts';

const SPANS = 3;
const LAYER = { layerBytes: 300, uncompressedBytes: 3000, maxSpanBytes: 1000 };

function table(): SpanTable {
  const spans = new SpanTable();
  for (let id = 0; id < SPANS; id++) {
    const compressed = { start: 100 * id, end: 100 * (id + 1) };
    const uncompressed = { start: 1000 * id, end: 1000 * (id + 1) };
    spans.add({ id, compressed, uncompressed, bits: 0, digest: digestOf(''), crc32: 0 });
  }
  return spans;
}

describe('a stored table of spans', () => {
  it('a stored span table decodes to its spans', () => {
    const decoded = SpanTable.decode(table().encode(), LAYER);
    expect([0, 1, 2, 3].map((id) => decoded.get(id))).toEqual([0, 1, 2, 3].map((id) => table().get(id)));
  });

  it.each([
    ['has spans behind the end of the layer', { layerBytes: 299 }],
    ['ends before the decompressed layer does', { uncompressedBytes: 3001 }],
    ['ends behind the decompressed layer', { uncompressedBytes: 2999 }],
    ['has a span that is longer than spans are', { maxSpanBytes: 999 }],
  ])('a stored span table is refused when it %s', (_, change) => {
    expect(() => SpanTable.decode(table().encode(), { ...LAYER, ...change })).toThrow(
      expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error,
    );
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, 2 ** 53, 999])(
    'a stored span table is refused with the offset %d',
    (offset) => {
      const bytes = table().encode();
      bytes.writeDoubleLE(offset, 16);
      expect(() => SpanTable.decode(bytes, LAYER)).toThrow(
        expect.objectContaining({ code: 'INDEX_MALFORMED' }) as Error,
      );
    },
  );
});
