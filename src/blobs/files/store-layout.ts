import { randomUUID } from 'node:crypto';
import { readdirSync, type Stats, statSync } from 'node:fs';
import { glob, mkdir, open, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { shortageOf } from '../../core/system/shortage.ts';
import type { BlobDamage } from '../../telemetry/stored-kinds.ts';
import { damageFrom, damageOf } from './damage-of.ts';
import type { StoredBlob } from './store-budget.ts';
import { isPassingFault } from './store-fault.ts';
import { digestOfKey, type StoreKey, taggedKey, tagOfKey } from './store-key.ts';

/** A blob found on disk. */
export interface FoundBlob extends StoredBlob {
  readonly key: StoreKey;
  /** Milliseconds of the epoch. */
  readonly usedAtMs: number;
}

/** A file in the place of a blob that is not that blob. */
interface DamagedBlob {
  readonly digest: Digest;
  readonly path: string;
  readonly damage: BlobDamage;
}

/** Normal corrections of a clock are smaller. */
const CLOCK_STEP_MS = 60_000;
const FORMAT_NAME = 'spandrel-store';
const FORMAT_VERSION = 2;
/** Unit of `stat`'s blocks on every file system: POSIX, `<sys/stat.h>`. */
export const BLOCK_BYTES = 512;

/**
 * Layout of `storage.root`: `format` (version of the layout), `verified` ({@link BlobLedger}),
 * `blobs/<algorithm>/<2 hex digits>/<hex>` (complete blobs), `partial/<algorithm>-<hex>-<upstream>-<random>`
 * (partial blobs) and the same with `.map` (their pieces). The file system is the only list of the content;
 * modification times are the order of use.
 */
export class StoreLayout {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * True if a file can be written in the folder of partial blobs. The file has one byte, so that a full disk
   * shows.
   */
  async isWritable(): Promise<boolean> {
    const path = join(this.#root, 'partial', `probe-${randomUUID()}.tmp`);
    // A failure means that nothing can be stored, and the next write reports the cause; but a process without
    // descriptors says nothing about the disk. A full disk may have created the file without its byte.
    const [written] = await Promise.allSettled([writeFile(path, '1')]);
    const [removed] = await Promise.allSettled([rm(path, { force: true })]);
    return [written, removed].every(
      (done) => done.status === 'fulfilled' || shortageOf(done.reason) !== undefined,
    );
  }

  /** Bytes that the file system has left for this user; `undefined` if it does not say. */
  async freeBytes(): Promise<number | undefined> {
    try {
      const { bavail, bsize } = await statfs(this.#root);
      return bavail * bsize;
    } catch {
      // A store that cannot be asked is not writable either.
      return undefined;
    }
  }

  /** Path of the {@link BlobLedger}. */
  get ledgerPath(): string {
    return join(this.#root, 'verified');
  }

  blobPath(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#root, 'blobs', digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /** A new unique path of a partial file. */
  newPartialPath(key: StoreKey): string {
    const [digest, tag] = [digestOfKey(key), tagOfKey(key)];
    const parts = [digestAlgorithm(digest), digestHex(digest), ...(tag === '' ? [] : [tag])];
    return join(this.#root, 'partial', [...parts, randomUUID().slice(0, 8)].join('-'));
  }

  /**
   * Creates the folders, or upgrades an older store: blobs of version 1 stay in place; its partial files had
   * no maps and are removed.
   * @returns the versions, if the store was upgraded
   * @throws SpandrelError STORE_FAILED if the store is of a later version, or of another program
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
   * Lists all blobs, least recently used first, those whose files are damaged, and the unusable files in
   * `partial`. Blocks the event loop, which is several times faster, and is meant for start-up: 100,000 blobs
   * take about a second.
   * @param verifiedSizes sizes of the blobs whose digests were verified
   * @param nowMs milliseconds of the epoch; blobs used later than that count as least recently used, because
   * their time is wrong
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

  /**
   * A partial file is usable if it has a map, the blob is not complete, and no other file has the same blob
   * and upstream.
   */
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
    // Version 1 did not write the file atomically.
    if (text === '') return 1;
    const [, digits] = /^spandrel-store (\d{1,6})\n?$/.exec(text) ?? [];
    const found = JSON.stringify(text.trim().slice(0, 40));
    if (digits === undefined)
      throw new SpandrelError('STORE_FAILED', `${this.#root} is not a store: its format is ${found}`);
    if (Number(digits) > FORMAT_VERSION)
      throw new SpandrelError(
        'STORE_FAILED',
        `the store ${this.#root} was written by a later version (${found}, this one knows ` +
          `${FORMAT_VERSION}): use another storage.root`,
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

/** Path of the map of a partial file. */
export function mapPathOf(partialPath: string): string {
  return `${partialPath}.map`;
}

/** Syncs the folder of `path`, so that its names survive a power failure. */
export async function syncFolderOf(path: string): Promise<void> {
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}

/** `stat` of a blob's file, or its damage. */
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

/** Removes temporary files of version 1. */
async function removeTemporaries(folder: string): Promise<void> {
  for await (const entry of glob('**/*.tmp', { cwd: folder, withFileTypes: true }))
    if (entry.isFile()) await rm(join(entry.parentPath, entry.name));
}
