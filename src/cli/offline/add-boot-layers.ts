import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';

import { bootLayerLimit } from '../../boot/layer/make-boot-layer.ts';
import type * as bootTasks from '../../boot/layer/boot-worker.ts';
import { makeBootLayerOfFiles } from '../../boot/layer/make-boot-layer-of-files.ts';
import { extendConfig } from '../../boot/layer/extend-config.ts';
import type { BootPool } from '../../boot/layer/pack-boot-tar.ts';
import { parseBootFiles } from '../../boot/layer/parse-boot-files.ts';
import type { FilePart } from '../../build/file-part.ts';
import type { LocatedImage } from '../../convert/index-source.ts';
import type { LayoutOutput } from '../../convert/layout-output.ts';
import type { MadeBootLayer } from '../../convert/platform-outcome.ts';
import { digestOf } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { WorkerPool } from '../../threads/worker-pool.ts';
import { UsageError } from '../terminal/usage-error.ts';
import type { OfflineSettings } from './offline-settings.ts';

/** As `index.bootLayerBytes`. */
const MAX_BYTES = 32 * 2 ** 20;
const MAX_QUEUED = 1_000;

export interface AddBootLayersOptions extends OfflineSettings {
  readonly wanted: readonly RawText[];
  readonly output: LayoutOutput;
  readonly pool: BootPool;
  readonly newPath: () => string;
}

/** @throws UsageError if the file has something else than paths or a profile */
export async function readBootFiles(file: string): Promise<readonly RawText[]> {
  const wanted = parseBootFiles(await readFile(file, 'utf8'));
  if (wanted === undefined)
    throw new UsageError(`--boot-files: ${file} is JSON, but neither a list of paths nor a profile`);
  return wanted;
}

/** @param threads as many images as are converted at the same time */
export function openBootPool(threads: number): BootPool {
  const entry = new URL(`../../boot/layer/boot-worker${extname(import.meta.url)}`, import.meta.url);
  return new WorkerPool<typeof bootTasks>({ name: 'boot', entry, threads, maxQueue: MAX_QUEUED });
}

/** Makes the boot layer of an image of a layout, and puts it into the output with its config. */
export async function addBootLayer(
  { layers, config }: LocatedImage<FilePart>,
  { wanted, output, pool, newPath, engine, limits }: AddBootLayersOptions,
): Promise<MadeBootLayer> {
  const imageBytes = layers.reduce((sum, { size }) => sum + size, 0);
  const most = bootLayerLimit(imageBytes, MAX_BYTES);
  try {
    const files = layers.map(({ digest, part }) => ({ ...part, digest }));
    const made = await makeBootLayerOfFiles(files, { wanted, most, pool, newPath, engine, limits });
    if (made === undefined)
      return { skipped: 'no_files', message: `none of ${wanted.length} files can be in a boot layer` };
    const { bytes, digest, plainDigest } = made.packed;
    const extended = extendConfig(config, plainDigest, layers.length);
    const configDigest = digestOf(extended);
    await output.putBlob(digest, bytes);
    await output.putBlob(configDigest, extended);
    return {
      layer: { digest, size: bytes.byteLength },
      config: { digest: configDigest, size: extended.byteLength },
      files: made.plan.files.length,
    };
  } catch (error) {
    if (!isSpandrelError(error, ...FAULTS)) throw error;
    return { skipped: error.code, message: error.message };
  }
}

/** What makes an image unfit for a boot layer, not for nodes. */
const FAULTS = [
  'LAYER_CORRUPT',
  'LAYER_UNSUPPORTED',
  'LAYER_TOO_LARGE',
  'TAR_INVALID',
  'IMAGE_UNSUPPORTED',
] as const;
