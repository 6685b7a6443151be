import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { Events } from '../../src/telemetry/events.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { CRASH_BLOBS, CRASH_FILL, crashBlob } from '../helpers/faults/crash-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { startProgram } from '../helpers/programs.ts';
import { readWhole } from '../helpers/layers/random-blob.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHILD = new URL('../helpers/faults/crash-store.ts', import.meta.url).pathname;
const PIECE_BYTES = 16 * 1024;

/** Pieces that a killed process had fetched, and blobs that it had reported as complete. */
interface Crash {
  readonly fetchedBytes: number;
  readonly completed: readonly number[];
}

/** Lets a process fill the store, and kills it after some pieces. */
async function fillAndCrash(root: string, pieces: number): Promise<Crash> {
  const child = startProgram('node', [CHILD, root], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const completed: number[] = [];
  let fetched = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'piece') fetched++;
    else completed.push(Number(line));
    if (fetched === pieces) child.kill('SIGKILL');
  }
  await exited;
  return { fetchedBytes: fetched * PIECE_BYTES, completed };
}

describe('a store whose process is killed', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'has only right bytes afterwards, and all finished work (seed %i)',
    async (seed) => {
      const random = seededRandom(seed);
      const root = await temporaryFolder();
      const blobs = CRASH_BLOBS.map((_, place) => crashBlob(place));
      const totalBytes = blobs.reduce((sum, blob) => sum + blob.byteLength, 0);
      let fetchedBytes = 0;
      const completed = new Set<number>();
      // Killed twice, so that what a second process has added to the leftovers of the first is tested too.
      for (let round = 0; round < 2; round++) {
        const crash = await fillAndCrash(root, 1 + Math.floor(random() * (totalBytes / PIECE_BYTES / 2)));
        fetchedBytes += crash.fetchedBytes;
        for (const place of crash.completed) completed.add(place);
      }
      const events = new Events(collectingLogger());
      await using store = await blobStore({ root, maxBytes: 2 ** 30, fill: CRASH_FILL, events });
      for (const place of completed)
        expect(store.stat(digestOf(blobs[place] ?? ''))).toMatchObject({ state: 'complete' });
      for (const blob of blobs) {
        const source = new MemorySource(blob);
        {
          await using handle = await store.openBlob(digestOf(blob), source, {
            provenBytes: provenBytes(blob.byteLength),
          });
          expect((await readWhole(handle)).equals(blob)).toBe(true);
          await handle.completed();
        }
        fetchedBytes += source.bytesSent;
      }
      const redoneBytes = fetchedBytes - totalBytes;
      // At most a chunk for each request that ran at a kill, besides pieces that the killed process did not
      // report.
      expect(redoneBytes).toBeLessThanOrEqual(2 * blobs.length * CRASH_FILL.parallel * CRASH_FILL.chunkBytes);
      expect(await readdir(join(root, 'partial'))).toEqual([]);
    },
    60_000,
  );
});
