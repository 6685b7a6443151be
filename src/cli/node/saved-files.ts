import { chmod, mkdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { resolveInRoot } from '../doctor/resolve-in-root.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { FileChange, OwnFile, Reload } from './node-plan.ts';

/** Where the files of the node are kept as they were before the first change. */
const SAVED = '/var/lib/spandrel/node-setup.json';
const NEW_MODE = 0o644;

/** What is in the file at {@link SAVED}. */
interface Saved {
  readonly files: Map<string, SavedFile>;
  /** Folders that were not there before. */
  readonly folders: Set<string>;
}

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
    for (const [path, { before, after, reload }] of (await this.#readSaved()).files)
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
    const { files, folders } = saved;
    for (const { path, before, after = '', reload } of changes) {
      const first = files.get(path);
      // If somebody else has changed it since, an undo restores that.
      const original = first?.after === before ? first?.before : before;
      files.set(path, { before: original ?? null, after, ...(reload === undefined ? {} : { reload }) });
    }
    for (const path of [SAVED, ...changes.flatMap(({ path, after }) => (after === undefined ? [] : path))])
      for (const folder of await this.#missingFolders(path)) folders.add(folder);
    await this.#writeSaved(saved);
    for (const { path, after } of changes) await this.#put(path, after);
    for (const { path, after } of changes)
      if (after === (files.get(path)?.before ?? undefined)) files.delete(path);
    await this.#finish(saved);
  }

  /**
   * Restores all files as they were, but for those that somebody has changed since. Removes the folders that
   * were made for them, if they are empty.
   */
  async undo(): Promise<UndoneFile[]> {
    const saved = await this.#readSaved();
    const undone: UndoneFile[] = [];
    for (const [path, { before, after, reload }] of saved.files) {
      const now = await this.#read(path);
      if (now !== (before ?? undefined)) {
        if (now !== after) {
          undone.push({ path, state: 'kept', reload: undefined });
          continue;
        }
        await this.#put(path, before ?? undefined);
        undone.push({ path, state: before === null ? 'removed' : 'restored', reload });
      }
      saved.files.delete(path);
    }
    await this.#finish(saved);
    return undone;
  }

  /** Removes empty folders, and the saved state once nothing is left to undo. */
  async #finish(saved: Saved): Promise<void> {
    const { files, folders } = saved;
    await this.#removeEmpty(folders);
    if (files.size > 0) return this.#writeSaved(saved);
    await rm(await this.#place(SAVED), { force: true });
    await this.#removeEmpty(folders);
  }

  /** Of those that are removed, none is left in the set. */
  async #removeEmpty(folders: Set<string>): Promise<void> {
    for (const folder of [...folders].toSorted((one, other) => other.length - one.length)) {
      try {
        await rmdir(await this.#place(folder));
      } catch (error) {
        const code = nodeErrorCode(error);
        // Somebody else uses it, or it is mounted.
        if (['ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(code)) continue;
        if (!['ENOENT', 'ENOTDIR'].includes(code)) throw error;
      }
      folders.delete(folder);
    }
  }

  /** Folders of a path that are not there. */
  async #missingFolders(path: string): Promise<string[]> {
    const missing: string[] = [];
    for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
      const found = await stat(await this.#place(folder)).catch((error: unknown) => {
        if (nodeErrorCode(error) === 'ENOENT') return undefined;
        throw error;
      });
      if (found !== undefined) break;
      missing.push(folder);
    }
    return missing;
  }

  async #readSaved(): Promise<Saved> {
    const text = await this.#read(SAVED);
    if (text === undefined) return { files: new Map(), folders: new Set() };
    const value = tryParseJson(text) as { files?: Record<string, SavedFile>; folders?: string[] } | undefined;
    if (typeof value?.files !== 'object' || !Array.isArray(value.folders))
      throw new SpandrelError('CONFIG_INVALID', `${SAVED} is damaged: it has the files as they were`);
    return { files: new Map(Object.entries(value.files)), folders: new Set(value.folders) };
  }

  async #writeSaved({ files, folders }: Saved): Promise<void> {
    const value = { files: Object.fromEntries(files), folders: [...folders] };
    // Files of the node may have secrets in them.
    await this.#write(SAVED, `${JSON.stringify(value, undefined, 2)}\n`, 0o600);
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
