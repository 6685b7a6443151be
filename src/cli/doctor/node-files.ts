import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { parse, type TomlTable, type TomlValue } from 'smol-toml';

import { nodeErrorCode } from '../../core/node-error-code.ts';
import { resolveInRoot } from './resolve-in-root.ts';

export type { TomlTable };

/** Result of reading a TOML file. */
export type TomlFile =
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged'; readonly why: string }
  | { readonly kind: 'read'; readonly value: TomlTable };

/**
 * The files of a node, below `/` or a folder. Paths are those on the node. What this process may not read
 * looks as if it were missing, and is listed in {@link NodeFiles.denied}.
 */
export class NodeFiles {
  readonly #root: string;
  readonly #denied = new Set<string>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Paths that this process has tried to read without permission. */
  get denied(): readonly string[] {
    return [...this.#denied].toSorted();
  }

  /** `undefined` if there is no such file. */
  async readText(path: string): Promise<string | undefined> {
    return this.#unlessMissing(path, async () => readFile(await this.#place(path), 'utf8'));
  }

  /** The text of the first of these files that can be read. */
  async readFirst(paths: readonly string[]): Promise<string | undefined> {
    for (const path of paths) {
      const text = await readFile(await this.#place(path), 'utf8').catch(() => undefined);
      if (text !== undefined) return text;
    }
    return undefined;
  }

  async readToml(path: string): Promise<TomlFile> {
    const text = await this.readText(path);
    if (text === undefined) return { kind: 'missing' };
    try {
      return { kind: 'read', value: parse(text) };
    } catch (error) {
      return { kind: 'damaged', why: (error as Error).message.split('\n')[0] ?? '' };
    }
  }

  async exists(path: string): Promise<boolean> {
    return (await this.#unlessMissing(path, async () => stat(await this.#place(path)))) !== undefined;
  }

  /** Names in a folder, sorted; none if there is no such folder. */
  async list(folder: string): Promise<string[]> {
    const names = await this.#unlessMissing(folder, async () => readdir(await this.#place(folder)));
    return names?.toSorted() ?? [];
  }

  /** Files that match a pattern with `*` in its last part. */
  async match(pattern: string): Promise<string[]> {
    const folder = dirname(pattern);
    const escaped = basename(pattern).replace(/[.+?^${}()|[\]\\]/g, '\\$&');
    const wanted = new RegExp(`^${escaped.replaceAll('*', '.*')}$`);
    return (await this.list(folder)).filter((name) => wanted.test(name)).map((name) => join(folder, name));
  }

  #place(path: string): Promise<string> {
    return resolveInRoot(this.#root, path);
  }

  async #unlessMissing<T>(path: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      const code = nodeErrorCode(error);
      if (['EACCES', 'EPERM'].includes(code)) this.#denied.add(path);
      else if (!['ENOENT', 'ENOTDIR'].includes(code)) throw error;
      return undefined;
    }
  }
}

/** The table at a path of keys; an empty one if there is none. */
export function tableAt(value: TomlTable, ...keys: readonly string[]): TomlTable {
  let found: TomlTable = value;
  for (const key of keys) {
    const next = Object.hasOwn(found, key) ? found[key] : undefined;
    if (!isTable(next)) return {};
    found = next;
  }
  return found;
}

export function textOf(value: TomlValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** The items of an array of tables. */
export function tablesOf(value: TomlValue | undefined): TomlTable[] {
  return Array.isArray(value) ? value.filter(isTable) : [];
}

export function textsOf(value: TomlValue | undefined): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
}

/** Merges `over` into `base`, table by table. */
export function mergeTables(base: TomlTable, over: TomlTable): TomlTable {
  const merged: TomlTable = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isTable(before) && isTable(value) ? mergeTables(before, value) : value;
  }
  return merged;
}
