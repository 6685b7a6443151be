import { BlobStore } from '../../../src/blobs/blob-store.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { provenBytes } from '../../../src/core/proven-bytes.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../collected-output.ts';
import { MemorySource } from '../layers/memory-source.ts';
import { randomBlob } from '../layers/random-blob.ts';

/** Sizes of the blobs that the process fetches. */
export const CRASH_BLOBS = [3_000_000, 50_000, 1_234_567, 700_001];
export const CRASH_FILL = { parallel: 3, chunkBytes: 128 * 1024 };

export function crashBlob(place: number): Buffer {
  return randomBlob(CRASH_BLOBS[place] ?? 0, 1000 + place);
}

/**
 * As a process of its own: fill a store with all blobs at once. A line `piece` is written before each piece
 * that the upstream sends, and the place of a blob when that is complete.
 */
async function fillStore(root: string): Promise<void> {
  const events = new Events(collectingLogger());
  const store = await BlobStore.open({
    root,
    maxBytes: 2 ** 30,
    fill: CRASH_FILL,
    events,
    logger: collectingLogger(),
  });
  await Promise.all(
    CRASH_BLOBS.map(async (sizeBytes, place) => {
      const blob = crashBlob(place);
      const source = new MemorySource(blob, { beforePiece: () => void process.stdout.write('piece\n') });
      await using handle = await store.openBlob(digestOf(blob), source, {
        provenBytes: provenBytes(sizeBytes),
      });
      await handle.completed();
      process.stdout.write(`${place}\n`);
    }),
  );
  await store[Symbol.asyncDispose]();
}

const [, script, folder] = process.argv;
if (script === import.meta.filename && folder !== undefined) await fillStore(folder);
