import { randomUUID } from 'node:crypto';
import { readdirSync, type Stats, statSync } from 'node:fs';
import { glob, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { BlobDamage } from '../../telemetry/metrics.ts';
import { damageFrom, damageOf } from './damage-of.ts';
import type { StoredBlob } from './store-budget.ts';
import { isPassingFault } from './store-fault.ts';
import { digestOfKey, type StoreKey, taggedKey, tagOfKey } from './store-key.ts';

/** A blob as it was found on disk. */
export interface FoundBlob extends StoredBlob {
  readonly key: StoreKey;
  /** Milliseconds of the epoch. */
  readonly usedAtMs: number;
}

/** What stands where a blob should be, and is not it. */
interface DamagedBlob {
  readonly digest: Digest;
  readonly path: string;
  readonly damage: BlobDamage;
}

/** Clocks are set by no more than this while nothing is wrong with them. */
const CLOCK_STEP_MS = 60_000;
const FORMAT_NAME = 'spandrel-store';
const FORMAT_VERSION = 2;
/** What `stat` counts blocks in, whatever the file system's own are: POSIX, `<sys/stat.h>`. */
export const BLOCK_BYTES = 512;

/**
 * Where things are below `storage.root`: `format` (version of this layout), `verified` ({@link BlobLedger}), `blobs/<algorithm>/<2 hex digits>/<hex>` (complete
 * blobs), `partial/<algorithm>-<hex>-<upstream>-<random>` and the same with `.map` (blobs that have not arrived as a whole, and what of them
 * is there). The file system is the only list of what is there, and modification times are the order of use.
 */
export class StoreLayout {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /** True if a file can be written where blobs arrive. Full disks show: the file has a byte. */
  async isWritable(): Promise<boolean> {
    const path = join(this.#root, 'partial', `probe-${randomUUID()}.tmp`);
    // Whatever fails, nothing can be stored; what is stored next says more. A full disk may have taken the name without the byte.
    const [written] = await Promise.allSettled([writeFile(path, '1')]);
    const [removed] = await Promise.allSettled([rm(path, { force: true })]);
    return written.status === 'fulfilled' && removed.status === 'fulfilled';
  }

  /** Of the {@link BlobLedger}. */
  get ledgerPath(): string {
    return join(this.#root, 'verified');
  }

  blobPath(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#root, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /** A path that no other partial file has or had. */
  newPartialPath(key: StoreKey): string {
    const [digest, tag] = [digestOfKey(key), tagOfKey(key)];
    const parts = [digestAlgorithm(digest), digestHex(digest), ...(tag === '' ? [] : [tag])];
    return join(this.#root, 'partial', [...parts, randomUUID().slice(0, 8)].join('-'));
  }

  /**
   * Make the folders, or take over those that are there. A store of version 1 is taken over: its blobs are where they are now,
   * its partial files had no maps and are removed.
   * @returns the version that was taken over, if it is an earlier one
   * @throws SpandrelError STORE_FAILED if the store was written by a later version, or by something else
   */
  async prepare(): Promise<{ from: number; to: number } | undefined> {
    const version = await this.#readVersion();
    const isEarlier = version !== undefined && version < FORMAT_VERSION;
    if (isEarlier) {
      await rm(join(this.#root, 'partial'), { recursive: true, force: true });
      for (const folder of ['indexes', 'manifests', 'tags'])
        await removeTemporaries(join(this.#root, folder));
    }
    await mkdir(join(this.#root, 'blobs'), { recursive: true });
    await mkdir(join(this.#root, 'partial'), { recursive: true });
    if (version !== FORMAT_VERSION) await this.#writeVersion();
    return isEarlier ? { from: version, to: FORMAT_VERSION } : undefined;
  }

  /**
   * All blobs, least recently used first, those whose files are not what was verified, and the files in `partial` that no fill can
   * use. Blocks the event loop, which is several times as fast and meant for the time before there is any other work: 100,000 blobs
   * take about a second.
   * @param verifiedSizes of the blobs whose digests have been found right
   * @param nowMs milliseconds of the epoch; what seems to have been used later than that goes first, for nothing is known of its use
   */
  scan(
    verifiedSizes: ReadonlyMap<Digest, number>,
    nowMs: number,
  ): {
    readonly blobs: FoundBlob[];
    readonly damaged: readonly DamagedBlob[];
    readonly leftovers: readonly string[];
  } {
    const found: FoundBlob[] = [];
    const damaged: DamagedBlob[] = [];
    const blobs = join(this.#root, 'blobs');
    for (const algorithm of foldersIn(blobs)) {
      for (const prefix of foldersIn(join(blobs, algorithm))) {
        const folder = join(blobs, algorithm, prefix);
        for (const name of readdirSync(folder)) {
          const digest = `${algorithm}:${name}`;
          if (!isDigest(digest)) continue;
          const path = join(folder, name);
          const verifiedBytes = verifiedSizes.get(digest);
          const file = statBlob(path, verifiedBytes);
          if (typeof file === 'string') {
            damaged.push({ digest, path, damage: file });
            continue;
          }
          const { size, mtimeMs } = file;
          const isUnverified = verifiedBytes === undefined;
          found.push({ key: digest, sizeBytes: size, heldBytes: size, usedAtMs: mtimeMs, isUnverified });
        }
      }
    }
    const complete = new Set<StoreKey>(found.map(({ key }) => key));
    const { partials, leftovers } = this.#findPartials(complete);
    const usedAtMs = (blob: FoundBlob): number => (blob.usedAtMs > nowMs + CLOCK_STEP_MS ? 0 : blob.usedAtMs);
    const inOrder = [...found, ...partials].toSorted((a, b) => usedAtMs(a) - usedAtMs(b));
    return { blobs: inOrder, damaged, leftovers };
  }

  /** A partial file is of use with its map, while the blob is not complete, and if there is no other of the same blob and upstream. */
  #findPartials(complete: ReadonlySet<StoreKey>): { partials: Iterable<FoundBlob>; leftovers: string[] } {
    const folder = join(this.#root, 'partial');
    const partials = new Map<StoreKey, FoundBlob & { partialPath: string }>();
    const names = new Set(readdirSync(folder));
    const leftovers: string[] = [];
    for (const name of names) {
      if (name.endsWith('.map') && names.has(name.slice(0, -'.map'.length))) continue;
      const path = join(folder, name);
      const [, algorithm = '', hex = '', tag = ''] =
        /^([a-z0-9]+)-([0-9a-f]+)(?:-([0-9a-f]{16}))?-[0-9a-f]{8}$/.exec(name) ?? [];
      const digest = `${algorithm}:${hex}`;
      const key = isDigest(digest) && !complete.has(digest) ? taggedKey(digest, tag) : undefined;
      if (key === undefined || partials.has(key) || !names.has(mapPathOf(name))) {
        leftovers.push(path, mapPathOf(path));
        continue;
      }
      const { size, blocks, mtimeMs } = statSync(path);
      const heldBytes = Math.min(size, blocks * BLOCK_BYTES);
      partials.set(key, { key, sizeBytes: size, heldBytes, usedAtMs: mtimeMs, partialPath: path });
    }
    return { partials: partials.values(), leftovers };
  }

  async #readVersion(): Promise<number | undefined> {
    const text = await readFile(join(this.#root, 'format'), 'utf8').catch((error: unknown) => {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return undefined;
    // The first version did not write it in one step.
    if (text === '') return 1;
    const [, digits] = /^spandrel-store (\d{1,6})\n?$/.exec(text) ?? [];
    const found = JSON.stringify(text.trim().slice(0, 40));
    if (digits === undefined)
      throw new SpandrelError('STORE_FAILED', `${this.#root} is no store: its format says ${found}`);
    if (Number(digits) > FORMAT_VERSION)
      throw new SpandrelError(
        'STORE_FAILED',
        `the store ${this.#root} was written by a later version (${found}, this one knows ${FORMAT_VERSION}): use another storage.root`,
      );
    return Number(digits);
  }

  async #writeVersion(): Promise<void> {
    const path = join(this.#root, 'format');
    await writeFile(`${path}.tmp`, `${FORMAT_NAME} ${FORMAT_VERSION}\n`, { flush: true });
    await rename(`${path}.tmp`, path);
    await syncFolderOf(path);
  }
}

/** The map that belongs to a partial file. */
export function mapPathOf(partialPath: string): string {
  return `${partialPath}.map`;
}

/** Make the names in the folder of `path` survive a power failure. */
export async function syncFolderOf(path: string): Promise<void> {
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}

/** The file of a blob, or what is wrong with it. */
function statBlob(path: string, sizeBytes: number | undefined): Stats | BlobDamage {
  try {
    const file = statSync(path);
    return damageOf(file, sizeBytes) ?? file;
  } catch (error) {
    if (isPassingFault(error)) throw error;
    return damageFrom(error);
  }
}

function foldersIn(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** Temporary files that version 1 had beside the others. */
async function removeTemporaries(folder: string): Promise<void> {
  for await (const entry of glob('**/*.tmp', { cwd: folder, withFileTypes: true }))
    if (entry.isFile()) await rm(join(entry.parentPath, entry.name));
}
