import { BlobStore, type BlobStoreOptions } from '../../src/blobs/blob-store.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from './cleanup.ts';
import { collectingLogger } from './collected-output.ts';
import { temporaryFolder } from './temporary-folder.ts';

/**
 * A blob store in a folder of its own, with room for what tests fill it with. It is closed at the end of the
 * test.
 */
export async function blobStore(options: Partial<BlobStoreOptions> = {}): Promise<BlobStore> {
  const root = options.root ?? (await temporaryFolder());
  const fill = { parallel: 3, chunkBytes: 64 * 1024 };
  const logger = collectingLogger();
  const events = new Events(logger);
  return cleanup.use(await BlobStore.open({ maxBytes: 2 ** 30, fill, events, logger, ...options, root }));
}
