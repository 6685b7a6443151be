import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { resolveInRoot } from '../doctor/resolve-in-root.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { FileChange, OwnFile, Reload } from './node-plan.ts';

/** Where the files of the node are kept as they were before the first change. */
const SAVED = '/var/lib/spandrel/node-setup.json';
const NEW_MODE = 0o644;

/** A file as it was, and as it was last written. */
interface SavedFile {
  readonly before: string | null;
  readonly after: string;
  readonly reload?: Reload;
}

/** What an undo has done with a file. */
export interface UndoneFile {
  readonly path: string;
  /** `kept`: somebody has changed it since. */
  readonly state: 'restored' | 'removed' | 'kept';
  readonly reload: Reload | undefined;
}

/** Changes files of a node so that the changes can be taken back. */
export class SavedFiles {
  readonly #root: string;

  /** @param root where `/` of the node is */
  constructor(root: string) {
    this.#root = root;
  }

  /** Files that are as the last run has left them. */
  async own(): Promise<Map<string, OwnFile>> {
    const own = new Map<string, OwnFile>();
    for (const [path, { before, after, reload }] of await this.#readSaved())
      if ((await this.#read(path)) === after) own.set(path, { original: before ?? undefined, reload });
    return own;
  }

  /**
   * Writes files, each in one step. What they were before the first change is saved first, so that a killed
   * run can be undone or run again.
   */
  async apply(changes: readonly FileChange[]): Promise<void> {
    if (changes.length === 0) return;
    const saved = await this.#readSaved();
    for (const { path, before, after = '', reload } of changes) {
      const first = saved.get(path);
      // If somebody else has changed it since, an undo restores that.
      const original = first?.after === before ? first?.before : before;
      saved.set(path, { before: original ?? null, after, ...(reload === undefined ? {} : { reload }) });
    }
    await this.#writeSaved(saved);
    for (const { path, after } of changes) await this.#put(path, after);
    for (const { path, after } of changes)
      if (after === (saved.get(path)?.before ?? undefined)) saved.delete(path);
    await this.#writeSaved(saved);
  }

  /** Restores all files as they were, but for those that somebody has changed since. */
  async undo(): Promise<UndoneFile[]> {
    const saved = await this.#readSaved();
    const undone: UndoneFile[] = [];
    for (const [path, { before, after, reload }] of saved) {
      const now = await this.#read(path);
      if (now !== (before ?? undefined)) {
        if (now !== after) {
          undone.push({ path, state: 'kept', reload: undefined });
          continue;
        }
        await this.#put(path, before ?? undefined);
        undone.push({ path, state: before === null ? 'removed' : 'restored', reload });
      }
      saved.delete(path);
    }
    await this.#writeSaved(saved);
    return undone;
  }

  async #readSaved(): Promise<Map<string, SavedFile>> {
    const text = await this.#read(SAVED);
    if (text === undefined) return new Map();
    const value = tryParseJson(text);
    if (typeof value !== 'object' || value === null)
      throw new SpandrelError('CONFIG_INVALID', `${SAVED} is damaged: it has the files as they were`);
    return new Map(Object.entries(value as Record<string, SavedFile>));
  }

  async #writeSaved(saved: ReadonlyMap<string, SavedFile>): Promise<void> {
    if (saved.size === 0) return rm(await this.#place(SAVED), { force: true });
    // Files of the node may have secrets in them.
    const text = `${JSON.stringify(Object.fromEntries(saved), undefined, 2)}\n`;
    await this.#write(SAVED, text, 0o600);
  }

  /** Where a file is on this machine. A symbolic link stays one. */
  #place(path: string): Promise<string> {
    return resolveInRoot(this.#root, path);
  }

  async #read(path: string): Promise<string | undefined> {
    try {
      return await readFile(await this.#place(path), 'utf8');
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(nodeErrorCode(error))) return undefined;
      throw error;
    }
  }

  async #put(path: string, text: string | undefined): Promise<void> {
    await (text === undefined ? rm(await this.#place(path), { force: true }) : this.#write(path, text));
  }

  async #write(path: string, text: string, newMode = NEW_MODE): Promise<void> {
    const file = await this.#place(path);
    await mkdir(dirname(file), { recursive: true });
    const mode = await stat(file).then(
      (found) => found.mode & 0o7777,
      () => newMode,
    );
    const temporary = join(dirname(file), `.spandrel-${process.pid}.tmp`);
    try {
      await writeFile(temporary, text, { mode });
      // `mode` of writeFile is subject to the umask.
      await chmod(temporary, mode);
      await rename(temporary, file);
    } finally {
      await rm(temporary, { force: true });
    }
  }
}
