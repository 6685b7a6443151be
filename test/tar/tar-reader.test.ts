import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { TarReader } from '../../src/tar/tar-reader.ts';
import type { TocEntry } from '../../src/tar/toc-entry.ts';
import { chunksOf } from '../helpers/layers/gzip-corpus.ts';
import { GoldenLayers } from '../oracles/golden-layers.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarHeader } from '../helpers/layers/tar-blocks.ts';

interface Reading {
  readonly entries: TocEntry[];
  readonly archiveBytes: number;
  readonly problem: string | undefined;
}

function read(chunks: Iterable<Uint8Array>): Reading {
  const entries: TocEntry[] = [];
  const reader = new TarReader((entry) => entries.push(entry));
  for (const chunk of chunks) reader.write(chunk);
  reader.finish();
  return { entries, archiveBytes: reader.archiveBytes, problem: reader.problem?.code };
}

function goldenTars(): { name: string; tar: Buffer }[] {
  const vectors = GoldenLayers.small();
  return vectors.layers
    .filter(
      ({ case: name, diffId, file }) =>
        name.startsWith('tar-') && diffId !== null && file.endsWith('.tar.gz'),
    )
    .map((layer) => ({ name: layer.case, tar: gunzipSync(readFileSync(vectors.path(layer))) }))
    .filter(({ tar }) => tar.length < 100_000);
}

describe('the tar reader', () => {
  it.each(goldenTars())('the tar reader reads $name the same however it is split', ({ tar }) => {
    const whole = read([tar]);
    for (const chunkBytes of [1, 7, 511, 512, 513, 4096])
      expect(read(chunksOf(tar, chunkBytes))).toEqual(whole);
  });

  it('the tar reader reads damaged archives alike however they are split, and reports problems', () => {
    const seed = 77;
    const random = seededRandom(seed);
    const tars = goldenTars().filter(({ tar }) => tar.length <= 20_000);
    for (let round = 0; round < 1500; round++) {
      const { tar, name } = tars[round % tars.length] ?? { tar: Buffer.alloc(0), name: '' };
      const damaged = Buffer.from(tar);
      for (let hits = 0; hits < 3; hits++) damaged[Math.floor(random() * damaged.length)] = random() * 256;
      fixChecksums(damaged);
      const cut = 1 + Math.floor(random() * 700);
      expect(read(chunksOf(damaged, cut)), `${name}, seed ${seed}, round ${round}`).toEqual(read([damaged]));
    }
  });

  it('the tar reader continues after an entry of a type that SOCI does not know', () => {
    const tar = Buffer.concat([
      tarHeader({ name: 'odd', typeflag: 'Z', size: 3 }),
      Buffer.alloc(512),
      tarHeader({ name: 'next' }),
      Buffer.alloc(1024),
    ]);
    const { entries, problem, archiveBytes } = read([tar]);
    expect({ names: entries.map(({ name }) => name), problem, archiveBytes }).toEqual({
      names: ['odd', 'next'],
      problem: 'TAR_UNSUPPORTED',
      archiveBytes: 2560,
    });
  });

  it('the tar reader skips the map of a GNU sparse file, which its size does not count', () => {
    const sparse = tarHeader({ name: 'sparse', typeflag: 'S', size: 512, isGnu: true, isExtended: true });
    const extension = Buffer.alloc(512);
    const tar = Buffer.concat([sparse, extension, Buffer.alloc(512, 'd'), tarHeader({ name: 'next' })]);
    const { entries } = read([tar]);
    expect(entries.map(({ name, type, uncompressedOffset }) => ({ name, type, uncompressedOffset }))).toEqual(
      [
        { name: 'sparse', type: 'unknown', uncompressedOffset: 1024 },
        { name: 'next', type: 'reg', uncompressedOffset: 2048 },
      ],
    );
  });

  it('the tar reader refuses a number that is not a safe integer', () => {
    const header = tarHeader({
      name: 'device',
      typeflag: '3',
      devMajor: Buffer.from('80ffffffffffffff', 'hex'),
    });
    const { entries, problem } = read([header, Buffer.alloc(1024)]);
    expect(entries).toMatchObject([{ name: 'device', type: 'unknown' }]);
    expect(problem).toBe('TAR_UNSUPPORTED');
  });

  it('the tar reader buffers no more of an extended header than the limit', () => {
    const { problem, archiveBytes } = read([
      tarHeader({ name: 'x', typeflag: 'x', size: 2 ** 20 + 1 }),
      Buffer.alloc(4096),
    ]);
    expect({ problem, archiveBytes }).toEqual({ problem: 'TAR_INVALID', archiveBytes: 512 });
  });
});

/** Gives every possible header block a right checksum, so that damage passes the first check. */
function fixChecksums(tar: Buffer): void {
  for (let at = 0; at + 512 <= tar.length; at += 512) {
    const block = tar.subarray(at, at + 512);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(' ', 148, 156);
    block.write(
      block
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0'),
      148,
    );
    block[154] = 0;
  }
}
