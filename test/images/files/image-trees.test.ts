import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { ImageTrees, type TreeRequest } from '../../../src/images/files/image-trees.ts';
import type * as treeTasks from '../../../src/images/files/tree-worker.ts';
import type { IndexedLayer } from '../../../src/images/files/tree-worker.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { WorkerPool } from '../../../src/threads/worker-pool.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import { type BuiltLayer, buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { gzipLayer } from '../../helpers/upstreams/image-upstream.ts';
import { file, tarOf } from '../../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const DIGEST = digestOf('');

let pool: WorkerPool<typeof treeTasks>;

beforeEach(() => {
  const entry = new URL('../../../src/images/files/tree-worker.ts', import.meta.url);
  pool = cleanup.use(new WorkerPool<typeof treeTasks>({ name: 'tree', entry, threads: 1, maxQueue: 10 }));
});

function openTrees(maxBytes: number, maxMakingBytes = 2 ** 28): ImageTrees {
  return new ImageTrees({ pool, maxBytes, maxMakingBytes, events: new Events(collectingLogger()) });
}

async function build(...members: readonly Buffer[]): Promise<BuiltLayer> {
  return cleanup.use(
    await buildFromBytes(gzipLayer(tarOf(...members)).bytes, { compression: 'gzip', spanBytes: 65_536 }),
  );
}

function request(built: BuiltLayer, more: Partial<TreeRequest> = {}): TreeRequest & { asked: number } {
  const asking = {
    asked: 0,
    key: 'image',
    fairnessKey: 'team/app',
    signal: new AbortController().signal,
    readLayers: async () => {
      asking.asked++;
      return [{ digest: DIGEST, indexPath: built.indexPath }];
    },
    replaceIndex: () => Promise.reject(new Error('no index is damaged')),
    ...more,
  };
  return asking;
}

describe('ImageTrees', () => {
  it('ImageTrees builds a tree once for concurrent requests, and an evicted one again', async () => {
    const built = await build(file('a'), file('b/c'));
    const trees = openTrees(500);
    const wanted = request(built);
    const [one, other] = await Promise.all([trees.get(wanted), trees.get(wanted)]);
    expect(one).toBe(other);
    expect(await trees.get(wanted)).toBe(one);
    expect(wanted.asked).toBe(1);
    expect(one.item(one.resolve(parseRawText('b/c'), true).place).layer).toBe(DIGEST);
    for (const key of ['x', 'y', 'z', 'u', 'v', 'w', 's', 't']) await trees.get(request(built, { key }));
    await trees.get(wanted);
    expect(wanted.asked).toBe(2);
  });

  it('ImageTrees remembers that a tree is too large to build or to keep', async () => {
    const built = await build(...Array.from({ length: 200 }, (_, place) => file(`file-${place}`)));
    for (const trees of [openTrees(2 ** 20, 10_000), openTrees(1000)]) {
      const wanted = request(built);
      for (let round = 0; round < 3; round++)
        await expect(trees.get(wanted)).rejects.toMatchObject({ code: 'LAYER_TOO_LARGE' });
      expect(wanted.asked).toBe(1);
      // Another image is not affected.
      const small = await build(file('a'));
      await trees.get(request(small, { key: 'small' }));
    }
  });

  it('ImageTrees has each missing or damaged index replaced once', async () => {
    const built = await build(file('a'));
    const folder = await temporaryFolder();
    const damaged = join(folder, 'damaged');
    await writeFile(damaged, 'no index');
    const other = digestOf('other');
    const paths = new Map([
      [DIGEST, join(folder, 'nothing')],
      [other, damaged],
    ]);
    const readLayers = (): Promise<IndexedLayer[]> =>
      Promise.resolve(Array.from(paths, ([digest, indexPath]) => ({ digest, indexPath })));
    const replaced: Digest[] = [];
    const replaceIndex = (digest: Digest): Promise<void> => Promise.resolve(void replaced.push(digest));
    const never = openTrees(2 ** 20).get(request(built, { readLayers, replaceIndex }));
    await expect(never).rejects.toMatchObject({ code: 'STORE_FULL' });
    expect(replaced.splice(0)).toEqual([DIGEST]);
    const mend = (digest: Digest): Promise<void> => {
      paths.set(digest, built.indexPath);
      return replaceIndex(digest);
    };
    const tree = await openTrees(2 ** 20).get(request(built, { readLayers, replaceIndex: mend }));
    expect(tree.resolve(parseRawText('a'), true).path).toBe('a');
    expect(replaced.splice(0)).toEqual([DIGEST, other]);
    paths.set(DIGEST, damaged);
    const damagedAgain = openTrees(2 ** 20).get(request(built, { readLayers, replaceIndex }));
    await expect(damagedAgain).rejects.toMatchObject({ code: 'INDEX_MALFORMED' });
    expect(replaced).toEqual([DIGEST]);
  });

  it('ImageTrees stops when all waiters have left, and starts again for a later one', async () => {
    const built = await build(file('a'));
    const trees = openTrees(2 ** 20);
    const [first, second] = [new AbortController(), new AbortController()];
    const reading = Promise.withResolvers<AbortSignal>();
    const readLayers = (abandoned: AbortSignal): Promise<never> => {
      reading.resolve(abandoned);
      return new Promise((_resolve, reject) =>
        abandoned.addEventListener('abort', () => reject(new Error('left'))),
      );
    };
    const waiting = [first, second].map(({ signal }) => trees.get(request(built, { readLayers, signal })));
    const abandoned = await reading.promise;
    first.abort(new Error('first'));
    await expect(waiting[0]).rejects.toThrow('first');
    expect(abandoned.aborted).toBe(false);
    second.abort(new Error('second'));
    await expect(waiting[1]).rejects.toThrow('second');
    expect(abandoned.aborted).toBe(true);
    expect((await trees.get(request(built))).memoryBytes).toBeGreaterThan(0);
  });
});
