import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { type Digest, isDigest } from '../../core/digest.ts';
import { isSystemError, nodeErrorCode } from '../../core/node-error-code.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import { DigestFiles, type DigestFilesOptions } from './digest-files.ts';
import { Removals } from '../files/removals.ts';
import { storeFault } from '../files/store-fault.ts';
import type { StoreHealth } from '../files/store-health.ts';

/**
 * Evicted by time of use: indexes with their zTOCs; manifests and zTOCs over tars alone. Small records are
 * bounded by number.
 */
const KINDS = {
  index: 'bytes',
  ztoc: 'companion',
  tar: 'count',
  tarZtoc: 'bytes',
  manifest: 'bytes',
  tag: 'count',
  origin: 'count',
  refusal: 'count',
} as const;
type FileKind = keyof typeof KINDS;

/** Folders of the kinds, below the root of the store. */
const FOLDERS: Readonly<Record<FileKind, string>> = {
  index: 'indexes/layers',
  ztoc: 'indexes/ztocs',
  tar: 'indexes/tars',
  tarZtoc: 'indexes/tar-ztocs',
  manifest: 'manifests',
  tag: 'tags',
  origin: 'origins',
  refusal: 'indexes/refused',
};

export interface StoreFilesOptions {
  /** Folder of the store. */
  readonly root: string;
  /** Limit of the whole store. */
  readonly maxBytes: number;
  /** Limit of each kind that is bounded by number; default 100,000. */
  readonly maxRecords?: number;
  readonly health: StoreHealth;
  readonly events: Events;
  readonly logger: Logger;
}

/** Listener for files of one kind. */
export interface FileShelf {
  noteWritten(digest: Digest, bytes: number): void;
  noteUse(digest: Digest): void;
  noteRemoved(digest: Digest): void;
}

type Remove = (digest: Digest) => Promise<void>;

/**
 * Share of the store. An index costs CPU and a blob only a request, so indexes may evict blobs, but not all
 * of them.
 */
const SHARE = 0.25;
const MAX_RECORDS = 100_000;

/**
 * The files of the store that are not blobs. Beyond their limit the least recently used ones are removed; all
 * can be fetched or built again.
 */
export class StoreFiles implements AsyncDisposable {
  readonly #options: StoreFilesOptions;
  readonly #removals: Removals;
  /** Bytes of the files of each kind, least recently used first. */
  readonly #files: Record<FileKind, Map<Digest, number>>;
  /** Files of kinds that are bounded by bytes, in one order of use. */
  readonly #order = new Map<string, readonly [FileKind, Digest]>();
  #newestIndex: Digest | undefined;
  readonly #remove = new Map<FileKind, Remove>();
  readonly #bytes: Record<FileKind, number>;
  #makeRoom: () => Promise<void> = () => Promise.resolve();
  #trimming: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: StoreFilesOptions) {
    this.#options = options;
    this.#removals = new Removals(options);
    this.#files = eachKind(() => new Map<Digest, number>());
    this.#bytes = eachKind(() => 0);
  }

  /** Bytes of all kinds. */
  get usedBytes(): number {
    return Object.values(this.#bytes).reduce((sum, bytes) => sum + bytes, 0);
  }

  /** The files of a kind. */
  open(kind: FileKind, { durable = true }: Pick<DigestFilesOptions, 'durable'> = {}): DigestFiles {
    const { root, health } = this.#options;
    const options = { durable, kept: { kind, health }, removals: this.#removals, shelf: this.#shelf(kind) };
    const files = new DigestFiles(join(root, FOLDERS[kind]), options);
    this.#remove.set(kind, (digest) => files.remove(digest));
    return files;
  }

  /** Sets how files of a kind are evicted, if not one by one. `remove` must report removed files. */
  onEvict(kind: FileKind, remove: Remove): void {
    this.#remove.set(kind, remove);
  }

  /** Sets the function that evicts blobs to make room for files. */
  onGrowth(makeRoom: () => Promise<void>): void {
    this.#makeRoom = makeRoom;
  }

  /**
   * Lists the files on disk. Blocks the event loop, as `StoreLayout.scan` does. The time of writing counts as
   * the time of use.
   * @throws SpandrelError STORE_FAILED
   */
  scan(): void {
    const found = (Object.keys(KINDS) as FileKind[]).flatMap((kind) =>
      scanFolder(kind, join(this.#options.root, FOLDERS[kind])),
    );
    for (const { kind, digest, bytes } of found.toSorted((a, b) => a.writtenAtMs - b.writtenAtMs))
      this.#set(kind, digest, bytes);
    this.#updateMetrics();
    this.#startTrim();
  }

  /** The files of a kind, least recently used first. */
  list(kind: FileKind): Digest[] {
    return [...this.#files[kind].keys()];
  }

  /** Resolves when everything that exceeds a limit and can be removed is removed. */
  async settled(): Promise<void> {
    while (this.#trimming !== undefined) await this.#trimming;
  }

  #shelf(kind: FileKind): FileShelf {
    return {
      noteWritten: (digest, bytes) => {
        this.#set(kind, digest, bytes);
        this.#updateMetrics();
        this.#startTrim();
      },
      noteUse: (digest) => {
        const bytes = this.#files[kind].get(digest);
        if (bytes !== undefined) this.#set(kind, digest, bytes);
      },
      noteRemoved: (digest) => {
        this.#drop(kind, digest);
        this.#updateMetrics();
      },
    };
  }

  /** Stops evicting; the next process goes on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.settled();
    await this.#removals[Symbol.asyncDispose]();
  }

  #set(kind: FileKind, digest: Digest, bytes: number): void {
    this.#drop(kind, digest);
    this.#files[kind].set(digest, bytes);
    this.#bytes[kind] += bytes;
    if (kind === 'index') this.#newestIndex = digest;
    if (KINDS[kind] === 'bytes') this.#order.set(`${kind} ${digest}`, [kind, digest]);
  }

  #drop(kind: FileKind, digest: Digest): void {
    this.#bytes[kind] -= this.#files[kind].get(digest) ?? 0;
    this.#files[kind].delete(digest);
    this.#order.delete(`${kind} ${digest}`);
  }

  #startTrim(): void {
    if (this.#isClosed) return;
    this.#trimming ??= this.#trim()
      .catch((error: unknown) => this.#options.logger.error({ err: error }, 'the store could not be trimmed'))
      .finally(() => (this.#trimming = undefined));
  }

  async #trim(): Promise<void> {
    for (
      let victim = this.#findVictim();
      victim !== undefined && !this.#isClosed;
      victim = this.#findVictim()
    ) {
      const [kind, digest] = victim;
      this.#options.events.evicted('disk');
      await this.#remove.get(kind)?.(digest);
      // A file that cannot be removed no longer counts as part of the store.
      this.#drop(kind, digest);
      this.#updateMetrics();
    }
    await this.#makeRoom();
  }

  #findVictim(): readonly [FileKind, Digest] | undefined {
    const { maxBytes, maxRecords = MAX_RECORDS } = this.#options;
    for (const kind of Object.keys(KINDS) as FileKind[]) {
      const [oldest] = this.#files[kind].keys();
      if (KINDS[kind] === 'count' && this.#files[kind].size > maxRecords && oldest !== undefined)
        return [kind, oldest];
    }
    const isTooMuch = this.usedBytes > maxBytes * SHARE;
    if (!isTooMuch) return undefined;
    // The index in use stays, if it fits at all.
    const kept = this.usedBytes <= maxBytes ? this.#newestIndex : undefined;
    for (const entry of this.#order.values()) if (entry[1] !== kept) return entry;
    const [ztoc] = this.#files.ztoc.keys();
    // Without indexes, zTOCs are not needed.
    return this.#files.index.size === 0 && ztoc !== undefined ? ['ztoc', ztoc] : undefined;
  }

  #updateMetrics(): void {
    const { index, ztoc, tar, tarZtoc, manifest, tag, origin, refusal } = this.#bytes;
    const document = manifest + tag + origin + refusal;
    this.#options.events.storeChanged({ index: index + ztoc + tar + tarZtoc, document });
  }
}

function eachKind<T>(make: () => T): Record<FileKind, T> {
  const ofLayers = { index: make(), ztoc: make(), tar: make(), tarZtoc: make() };
  return { ...ofLayers, manifest: make(), tag: make(), origin: make(), refusal: make() };
}

interface FoundFile {
  readonly kind: FileKind;
  readonly digest: Digest;
  readonly bytes: number;
  readonly writtenAtMs: number;
}

/** Files of a folder of `DigestFiles`. @throws SpandrelError STORE_FAILED */
function scanFolder(kind: FileKind, folder: string): FoundFile[] {
  try {
    return scanFolderNow(kind, folder);
  } catch (error) {
    throw isSystemError(error) ? storeFault(error, `look through ${folder}`) : error;
  }
}

function scanFolderNow(kind: FileKind, folder: string): FoundFile[] {
  const found: FoundFile[] = [];
  for (const algorithm of namesIn(folder)) {
    for (const prefix of namesIn(join(folder, algorithm))) {
      for (const name of namesIn(join(folder, algorithm, prefix))) {
        const digest = `${algorithm}:${name}`;
        const file = statSync(join(folder, algorithm, prefix, name), { throwIfNoEntry: false });
        if (isDigest(digest) && file?.isFile() === true)
          found.push({ kind, digest, bytes: file.size, writtenAtMs: file.mtimeMs });
      }
    }
  }
  return found;
}

/** Names in a folder; empty if it is not a folder. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR'].includes(nodeErrorCode(error))) throw error;
    return [];
  }
}
