import { describe, expect, it } from 'vitest';

import { LentBuffers } from '../../src/blobs/lent-buffers.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('lent buffers', () => {
  it('are as long as is wanted, up to 1 MiB', () => {
    const buffers = new LentBuffers();
    for (const [wanted, got] of [
      [1, 1],
      [64 * KIB, 64 * KIB],
      [64 * KIB + 1, 64 * KIB + 1],
      [MIB, MIB],
      [5 * MIB, MIB],
    ] as const) {
      const lent = buffers.lend(wanted);
      expect(lent.bytes.byteLength).toBe(got);
      lent.finish();
    }
  });

  it('are filled again when they have been given back, and never while they are out', () => {
    const buffers = new LentBuffers();
    const first = buffers.lend(100);
    const second = buffers.lend(100);
    expect(second.bytes.buffer).not.toBe(first.bytes.buffer);
    first.finish();
    first.finish();
    const third = buffers.lend(50);
    const fourth = buffers.lend(50);
    expect(third.bytes.buffer).toBe(first.bytes.buffer);
    expect(fourth.bytes.buffer).not.toBe(first.bytes.buffer);
  });

  it('that somebody may still have are not filled again', () => {
    const buffers = new LentBuffers();
    const first = buffers.lend(100);
    first[Symbol.dispose]();
    first.finish();
    expect(buffers.lentBytes).toBe(0);
    expect(buffers.lend(100).bytes.buffer).not.toBe(first.bytes.buffer);
  });

  it('get smaller while many are out, and no more are kept than the budget allows', () => {
    const buffers = new LentBuffers(4 * MIB);
    const lent = Array.from({ length: 12 }, () => buffers.lend(8 * MIB));
    const sizes = lent.map(({ bytes }) => bytes.byteLength);
    expect(sizes).toEqual([MIB, MIB, ...Array.from({ length: 8 }, () => 256 * KIB), 64 * KIB, 64 * KIB]);
    const handed = new Set(lent.map(({ bytes }) => bytes.buffer));
    for (const one of lent) one.finish();
    expect(buffers.lentBytes).toBe(0);
    let keptBytes = 0;
    for (let round = 0; round < 100; round++) {
      for (const wanted of [64 * KIB, 256 * KIB, MIB]) {
        const { bytes } = buffers.lend(wanted);
        if (handed.delete(bytes.buffer)) keptBytes += bytes.buffer.byteLength;
      }
    }
    expect(keptBytes).toBeGreaterThan(2 * MIB);
    expect(keptBytes).toBeLessThanOrEqual(4 * MIB);
  });
});
