import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { buildZtoc, type ZtocParts } from '../../src/build/build-ztoc.ts';
import { SpanTable } from '../../src/index/span-table.ts';
import { TocRecords } from '../../src/index/toc-records.ts';

/** A checkpoint takes 32 KiB of a zTOC, whose limit is 2 GiB. */
const TOO_MANY_SPANS = 40_000;

describe('buildZtoc', () => {
  it('buildZtoc refuses more checkpoints than a zTOC can hold before allocating memory for them', () => {
    const spans = new SpanTable();
    const digest = digestOf('');
    for (let id = 0; id < TOO_MANY_SPANS; id++) {
      const range = { start: 4096 * id, end: 4096 * (id + 1) };
      spans.add({ id, compressed: range, uncompressed: range, bits: 0, digest, crc32: 0 });
    }
    const readWindow = (): void => {
      throw new Error('no window is needed');
    };
    const parts = {
      compression: 'gzip',
      spanBytes: 4096,
      layerBytes: 4096 * TOO_MANY_SPANS,
      archiveBytes: 4096 * TOO_MANY_SPANS,
      entries: new TocRecords(),
      writer: { spans, readWindow } as unknown as ZtocParts['writer'],
    } as const;
    expect(() => buildZtoc(parts)).toThrow(expect.objectContaining({ code: 'LAYER_TOO_LARGE' }) as Error);
  });
});
