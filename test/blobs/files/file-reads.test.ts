import { describe, expect, it } from 'vitest';

import { FileReads, type SharedBytes } from '../../../src/blobs/files/file-reads.ts';
import { ReadMemory } from '../../../src/blobs/files/read-memory.ts';
import { seededBytes } from '../../helpers/layers/gzip-corpus.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SEED = 71;
const CONTENT = Buffer.from(seededBytes(SEED, 9 * MIB + 12_345));

/** A file in memory that counts its reads. */
class CountedFile {
  readonly reads: FileReads;
  readonly ranges: [start: number, end: number][] = [];
  failure: Error | undefined;

  constructor(memory: ReadMemory) {
    this.reads = new FileReads(memory, async (buffer, position) => {
      this.ranges.push([position, position + buffer.byteLength]);
      await Promise.resolve();
      if (this.failure !== undefined) throw this.failure;
      CONTENT.copy(buffer, 0, position);
    });
  }

  /** A part, checked; the caller finishes it. */
  async read(start: number, end: number): Promise<SharedBytes> {
    const lent = await this.reads.read(start, end);
    const { byteLength } = lent.bytes;
    if (byteLength === 0 || byteLength > end - start)
      throw new Error(`${byteLength} bytes of ${end - start}`);
    if (!lent.bytes.equals(CONTENT.subarray(start, start + byteLength)))
      throw new Error(`wrong bytes at ${start}`);
    return lent;
  }

  async readAll(): Promise<void> {
    for (let start = 0; start < CONTENT.length;) {
      const lent = await this.read(start, CONTENT.length);
      start += lent.bytes.byteLength;
      lent.finish();
    }
  }
}

describe('reads of a file', () => {
  it('are shared by concurrent readers, and by those soon after them', async () => {
    const file = new CountedFile(new ReadMemory());
    await Promise.all(Array.from({ length: 50 }, () => file.readAll()));
    await file.readAll();
    const whole = Array.from({ length: 10 }, (_, place) => [
      place * MIB,
      Math.min((place + 1) * MIB, CONTENT.length),
    ]);
    expect(file.ranges).toEqual(whole);
  });

  it('align to a grid, wherever they start', async () => {
    const file = new CountedFile(new ReadMemory());
    const first = await file.read(300_000, CONTENT.length);
    expect(first.bytes.byteLength).toBe(MIB - 300_000);
    first.finish();
    await file.readAll();
    // Nothing of the first mebibyte but what was missing.
    expect(file.ranges.slice(0, 3)).toEqual([
      [300_000, MIB],
      [0, MIB],
      [MIB, 2 * MIB],
    ]);
  });

  it('read no more than needed, and find bytes of other reads', async () => {
    const file = new CountedFile(new ReadMemory());
    await file.readAll();
    file.ranges.length = 0;
    const random = seededRandom(SEED);
    for (let round = 0; round < 300; round++) {
      const start = Math.floor(random() * (CONTENT.length - 64 * KIB));
      (await file.read(start, start + 1 + Math.floor(random() * 64 * KIB))).finish();
    }
    expect(file.ranges).toEqual([]);
    const cold = new CountedFile(new ReadMemory());
    (await cold.read(5000, 6000)).finish();
    (await cold.read(MIB - 10, MIB + 10)).finish();
    expect(cold.ranges).toEqual([
      [5000, 6000],
      [MIB - 10, MIB + 10],
    ]);
  });

  it('are repeated after a failure, which all readers get', async () => {
    const memory = new ReadMemory();
    const file = new CountedFile(memory);
    file.failure = new Error('no such luck');
    const failed = await Promise.allSettled([file.reads.read(0, 10), file.reads.read(0, 10)]);
    expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(file.ranges).toHaveLength(1);
    expect(memory.usedBytes).toBe(0);
    file.failure = undefined;
    (await file.read(0, 10)).finish();
  });

  it('never use a buffer that a reader has, or may have', async () => {
    const memory = new ReadMemory(MIB);
    const file = new CountedFile(memory);
    const held = await Promise.all([0, 1, 2].map((place) => file.read(place * MIB, place * MIB + 64 * KIB)));
    const abandoned = await file.read(3 * MIB, 3 * MIB + 64 * KIB);
    abandoned[Symbol.dispose]();
    abandoned.finish();
    expect(memory.usedBytes).toBe(3 * 64 * KIB);
    for (let round = 0; round < 3; round++) await file.readAll();
    for (const [place, { bytes }] of held.entries())
      expect(bytes.equals(CONTENT.subarray(place * MIB, place * MIB + 64 * KIB))).toBe(true);
    expect(abandoned.bytes.equals(CONTENT.subarray(3 * MIB, 3 * MIB + 64 * KIB))).toBe(true);
  });

  it('get smaller while many buffers are in use, and unused buffers stay within the budget', async () => {
    const memory = new ReadMemory(4 * MIB);
    const files = Array.from({ length: 12 }, () => new CountedFile(memory));
    const lent = await Promise.all(files.map((file) => file.read(0, 8 * MIB)));
    const sizes = lent.map(({ bytes }) => bytes.byteLength);
    expect(sizes).toEqual([MIB, MIB, ...Array.from({ length: 8 }, () => 256 * KIB), 64 * KIB, 64 * KIB]);
    for (const one of lent) one.finish();
    expect(memory.usedBytes).toBe(0);
    // Kept bytes need no further read.
    for (const file of files) file.ranges.length = 0;
    let restingBytes = 0;
    for (const [place, file] of files.entries()) {
      const bytes = sizes[place] ?? 0;
      const again = await file.read(0, bytes);
      if (file.ranges.length === 0) restingBytes += bytes;
      again[Symbol.dispose]();
    }
    expect(restingBytes).toBeGreaterThan(2 * MIB);
    expect(restingBytes).toBeLessThanOrEqual(4 * MIB);
  });
});
