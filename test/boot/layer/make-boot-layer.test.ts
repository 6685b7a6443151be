import { describe, expect, it } from 'vitest';

import type { PackOutcome } from '../../../src/boot/layer/boot-worker.ts';
import type { Copies } from '../../../src/boot/layer/find-copies.ts';
import { bootLayerLimit, makeBootLayer } from '../../../src/boot/layer/make-boot-layer.ts';
import type { PlannedBootLayer } from '../../../src/boot/layer/plan-boot-layer.ts';
import { digestOf } from '../../../src/core/digest.ts';
import type { RawText } from '../../../src/tar/raw-text.ts';

const LAYER = digestOf('layer');
const FILE_BYTES = 1024;

/** Files of one KiB each, without directories. */
function copies(count: number): Copies {
  const files = Array.from({ length: count }, (_, place) => {
    const start = place * FILE_BYTES;
    const entry = { layer: LAYER, start, dataStart: start + 512, end: start + FILE_BYTES };
    return { names: [`file-${place}` as RawText], entries: [entry] };
  });
  return { files, directories: new Map() };
}

/**
 * Files that compress to a share of their size; counts what is packed.
 * @param heldBytes what is packed before the packer notices that it is too much
 */
function packing(
  ratio: number,
  heldBytes = 1000,
): {
  pack: (plan: PlannedBootLayer, maxBytes: number) => Promise<PackOutcome>;
  packed: number[];
} {
  const packed: number[] = [];
  const pack = async ({ tarBytes }: PlannedBootLayer, maxBytes: number): Promise<PackOutcome> => {
    packed.push(Math.min(tarBytes, Math.ceil(maxBytes / ratio)));
    const packedBytes = Math.min(tarBytes * ratio, maxBytes + heldBytes);
    if (packedBytes > maxBytes) return { bytes: undefined, packedBytes, plainBytes: packedBytes / ratio };
    const bytes = new Uint8Array(Math.ceil(tarBytes * ratio));
    return { bytes, digest: LAYER, plainDigest: LAYER, plainBytes: tarBytes };
  };
  return { pack, packed };
}

describe('makeBootLayer', () => {
  it('may take a fifth of the image, and never more than is allowed', () => {
    expect(bootLayerLimit(100_000, 32_000)).toBe(20_000);
    expect(bootLayerLimit(1_000_000, 32_000)).toBe(32_000);
  });

  it('takes all files if they fit', async () => {
    const { pack, packed } = packing(0.5);
    expect((await makeBootLayer(copies(10), 5 * FILE_BYTES, pack))?.plan.files).toHaveLength(10);
    expect(packed).toHaveLength(1);
  });

  it('takes the most wanted files if not all fit, however badly they compress', async () => {
    for (const ratio of [0.2, 0.4, 0.99]) {
      const { pack, packed } = packing(ratio);
      const made = await makeBootLayer(copies(1000), 100 * FILE_BYTES, pack);
      const most = Math.floor(100 / ratio);
      expect(made?.plan.files.length, `ratio ${ratio}`).toBeGreaterThan(0.85 * Math.min(most, 400));
      expect(made?.packed.bytes.length).toBeLessThanOrEqual(100 * FILE_BYTES);
      expect(made?.plan.files).toContain('file-0');
      expect(made?.plan.files).not.toContain('file-999');
      expect(packed.length).toBeLessThanOrEqual(2);
    }
  });

  it('fits small limits too, which are passed by much before that is noticed', async () => {
    const { pack, packed } = packing(1, 300 * FILE_BYTES);
    const made = await makeBootLayer(copies(1000), 50 * FILE_BYTES, pack);
    expect(made?.plan.files.length).toBeGreaterThan(40);
    expect(packed).toHaveLength(2);
  });

  it('leaves out a huge file, however early it is read, and takes what comes after it', async () => {
    const { files, directories } = copies(10);
    const entry = { layer: LAYER, start: 2 ** 30, dataStart: 2 ** 30 + 512, end: 2 ** 30 + 50 * FILE_BYTES };
    const huge = { names: ['model' as RawText], entries: [entry] };
    const { pack } = packing(0.5);
    const made = await makeBootLayer({ files: [huge, ...files], directories }, 20 * FILE_BYTES, pack);
    expect(made?.plan.files).toEqual(files.flatMap(({ names }) => names).toSorted());
  });

  it('ends if there is nothing to copy, or if nothing fits', async () => {
    const { pack, packed } = packing(1);
    expect(await makeBootLayer(copies(0), FILE_BYTES, pack)).toBeUndefined();
    expect(await makeBootLayer(copies(10), 100, pack)).toBeUndefined();
    expect(packed).toEqual([]);
    const never = async (): Promise<PackOutcome> => ({ bytes: undefined, plainBytes: 1e6, packedBytes: 1e6 });
    expect(await makeBootLayer(copies(1000), FILE_BYTES * 200, never)).toBeUndefined();
  });
});
