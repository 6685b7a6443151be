import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

import { FileReads } from './file-reads.ts';
import { fillFromFile } from './read-file-range.ts';
import type { ReadMemory } from './read-memory.ts';

/** A file open for reading. Dispose of it when done; it stays open for the next reader. */
export interface OpenFile extends AsyncDisposable {
  readonly handle: FileHandle;
  /** As the file was when it was opened. */
  readonly stats: Stats;
  /** The reads that all its users share. */
  readonly reads: FileReads;
}

interface Entry {
  readonly opening: Promise<{ readonly handle: FileHandle; readonly stats: Stats }>;
  readonly reads: FileReads;
  users: number;
}

const MAX_IDLE = 256;

/**
 * Keeps files of complete blobs open, once for all readers. Opening and closing a file costs more than
 * reading a small range, so the most recently used ones stay open.
 */
export class OpenFiles implements AsyncDisposable {
  readonly #memory: ReadMemory;
  readonly #maxIdle: number;
  /** Least recently opened first. */
  readonly #entries = new Map<string, Entry>();
  #idle = 0;
  #inUse = 0;

  constructor(memory: ReadMemory, maxIdle = MAX_IDLE) {
    this.#memory = memory;
    this.#maxIdle = maxIdle;
  }

  /** Number of users of open files. */
  get inUse(): number {
    return this.#inUse;
  }

  /** @throws as `fs.open` */
  async open(path: string): Promise<OpenFile> {
    let entry = this.#entries.get(path);
    if (entry === undefined) entry = this.#entry(path);
    else if (entry.users === 0) this.#idle--;
    entry.users++;
    this.#entries.delete(path);
    this.#entries.set(path, entry);
    try {
      const { handle, stats } = await entry.opening;
      const { reads } = entry;
      this.#inUse++;
      return { handle, stats, reads, [Symbol.asyncDispose]: () => this.#release(path, entry) };
    } catch (error) {
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      throw error;
    }
  }

  /** The path is about to be removed or replaced. Current readers keep reading the old file. */
  async forget(path: string): Promise<void> {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    if (entry.users > 0) return;
    this.#idle--;
    await (await entry.opening).handle.close();
  }

  #entry(path: string): Entry {
    const opening = openForReading(path);
    const reads = new FileReads(this.#memory, async (buffer, position) =>
      fillFromFile((await opening).handle, buffer, position),
    );
    return { opening, reads, users: 0 };
  }

  async #release(path: string, entry: Entry): Promise<void> {
    entry.users--;
    this.#inUse--;
    if (entry.users > 0) return;
    if (this.#entries.get(path) !== entry) {
      await (await entry.opening).handle.close();
      return;
    }
    this.#idle++;
    if (this.#idle <= this.#maxIdle) return;
    for (const [oldest, { users }] of this.#entries) if (users === 0) return this.forget(oldest);
  }

  /** Closes files without readers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#entries.keys(), (path) => this.forget(path)));
  }
}

async function openForReading(path: string): Promise<{ handle: FileHandle; stats: Stats }> {
  // Opening something other than a file, such as a pipe, must not block.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { handle, stats: await handle.stat() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
