import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { Growth } from '../../src/blobs/files/growth.ts';
import { digestOf } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { WorkerPool } from '../../src/threads/worker-pool.ts';
import { startLayerBuild } from '../../src/build/building-index.ts';
import { filesOfUnfinishedIndex } from '../../src/index/index-writer.ts';
import type * as layerTasks from '../../src/build/layer-worker.ts';
import type * as spanTasks from '../../src/spans/span-worker.ts';
import { openFilesIn } from '../helpers/faults/at-rest.ts';
import { NO_LIMITS } from '../helpers/layers/built-layer.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const ROUNDS = 12;
/** Running and waiting tasks when the threads are killed: more than there are threads. */
const TASKS = 4;

const tar = tarArchive({ noise: randomBlob(400_000, 1), text: Buffer.alloc(400_000, 'text ') });
const gzip = gzipSync(tar, { level: 1 });
const zstd = zstdCompressSync(tar);

let folder: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'gzip'), gzip);
  await writeFile(join(folder, 'zstd'), zstd);
});

function openPool<Tasks>(name: 'index' | 'span', entry: string): WorkerPool<Tasks> {
  const url = new URL(`../../src/${entry}.ts`, import.meta.url);
  return new WorkerPool<Tasks>({ entry: url, threads: 2, name, maxQueue: 100 });
}

function indexPath(place: number): string {
  return join(folder, `index-${place}`);
}

/** @param growth growth of the file; while it has not ended, the build waits */
function build(pool: WorkerPool<typeof layerTasks>, place: number, growth: Growth): Promise<unknown> {
  return startLayerBuild({
    pool,
    path: join(folder, 'gzip'),
    growth,
    layerDigest: digestOf(gzip),
    layerBytes: provenBytes(gzip.length),
    compression: 'gzip',
    engine: 'wasm',
    spanBytes: 65_536,
    readSpanBytes: 65_536,
    limits: NO_LIMITS,
    indexPath: indexPath(place),
  }).completed;
}

/** Lets another number of turns pass in each round. */
async function passTurns(round: number): Promise<void> {
  for (let turn = 0; turn < 2 ** (round % 12); turn++) await setImmediate();
}

async function expectNothingLeft(): Promise<void> {
  expect(openFilesIn(folder)).toEqual([]);
  expect((await readdir(folder)).toSorted()).toEqual(['gzip', 'zstd']);
}

describe('killed threads', () => {
  it('threads killed while they build leave no open file, nor one unknown to its owner', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const pool = openPool<typeof layerTasks>('index', 'build/layer-worker');
      await build(pool, 0, Growth.complete(gzip.length));
      await rm(indexPath(0));
      const builds = Array.from({ length: TASKS }, (_, place) => {
        const growth = new Growth();
        growth.advance(gzip.length);
        return build(pool, place, growth);
      });
      const ends = Promise.allSettled(builds);
      await passTurns(round);
      await pool[Symbol.asyncDispose]();
      expect((await ends).map(({ status }) => status)).toEqual(builds.map(() => 'rejected'));
      for (const place of builds.keys())
        for (const file of filesOfUnfinishedIndex(indexPath(place))) await rm(file, { force: true });
      await expectNothingLeft();
    }
  });

  it('threads killed because readers of a zstd layer abort leave no open file', async () => {
    await using pool = openPool<typeof spanTasks>('span', 'spans/span-worker');
    const whole = { start: 0, end: tar.length };
    const input: spanTasks.ReadZstdSpansInput = {
      path: join(folder, 'zstd'),
      spans: [{ id: 0, compressed: { start: 0, end: zstd.length }, uncompressed: whole, bits: 0, crc32: 0 }],
      maxSkippedBytes: tar.length,
      maxWindowBytes: 2 ** 27,
    };
    for (let round = 0; round < ROUNDS; round++) {
      const leaving = new AbortController();
      const { signal } = leaving;
      const reads = Array.from({ length: TASKS }, () => pool.tasks.readZstdSpans(input, { signal }));
      const ends = Promise.allSettled(reads);
      await passTurns(round);
      leaving.abort(new Error('the reader has left'));
      expect((await ends).map(({ status }) => status)).toEqual(reads.map(() => 'rejected'));
    }
    await pool[Symbol.asyncDispose]();
    await expectNothingLeft();
  });
});
