import { createHash } from 'node:crypto';

import { type ContentKind, FileContents } from './file-contents.ts';
import type { Random } from './random.ts';
import type { TarEntry } from '../tar/write-tar.ts';

/** 2026-01-01; files are up to a year older. */
const NEWEST_MTIME_SECONDS = 1_767_225_600;
const YEAR_SECONDS = 31_536_000;

/** What may be said about any member. */
export type MemberOptions = Pick<TarEntry, 'mode' | 'uid' | 'gid' | 'mtimeNanoseconds' | 'xattrs'>;

/** The members of one layer. Paths are relative; the folders above a member are added by themselves. */
export class LayerTree {
  readonly #random: Random;
  readonly #contents: FileContents;
  readonly #entries = new Map<string, TarEntry>();

  /** What is in a file depends on the seed of `random` and the file's path only. */
  constructor(random: Random) {
    this.#random = random;
    this.#contents = new FileContents(random.fork('vocabulary'));
  }

  directory(path: string, options: MemberOptions = {}): void {
    this.#add({ ...options, path: `${path}/`, type: 'directory' });
  }

  /** A file of `bytes` made-up bytes. */
  file(path: string, kind: ContentKind, bytes: number, options: MemberOptions = {}): void {
    // Made anew each time it is asked for, so that no content is kept.
    const content = { [Symbol.iterator]: () => this.#contents.read(kind, bytes, this.#random.fork(path)) };
    this.#add({ ...options, path, type: 'file', size: bytes, content });
  }

  text(path: string, text: string, options: MemberOptions = {}): void {
    const bytes = Buffer.from(text);
    this.#add({ ...options, path, type: 'file', size: bytes.length, content: [bytes] });
  }

  symlink(path: string, linkName: string, options: MemberOptions = {}): void {
    this.#add({ mode: 0o777, ...options, path, type: 'symlink', linkName });
  }

  /** Another name of the file `target`, which has to come first in the order of {@link entries}. */
  hardlink(path: string, target: string): void {
    this.#add({ path, type: 'hardlink', linkName: target });
  }

  device(path: string, major: number, minor: number): void {
    this.#add({ path, type: 'character', mode: 0o666, deviceMajor: major, deviceMinor: minor });
  }

  fifo(path: string): void {
    this.#add({ path, type: 'fifo' });
  }

  /** Removes `path` of the layers below (OCI image spec, "Whiteouts"). */
  whiteout(path: string): void {
    const cut = path.lastIndexOf('/') + 1;
    this.text(`${path.slice(0, cut)}.wh.${path.slice(cut)}`, '');
  }

  /** Hides what the layers below have in the folder `path` (OCI image spec, "Opaque Whiteout"). */
  opaque(path: string): void {
    this.text(`${path}/.wh..wh..opq`, '');
  }

  /** All members in the order of their paths: a folder comes before what it holds. */
  entries(): TarEntry[] {
    return [...this.#entries.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  }

  /** Size and SHA-256, in hex, of one of the files. */
  measure(path: string): { size: number; sha256: string } {
    const { size = 0, content = [] } = this.#entries.get(path) ?? {};
    const hash = createHash('sha256');
    for (const chunk of content) hash.update(chunk);
    return { size, sha256: hash.digest('hex') };
  }

  #add(entry: TarEntry): void {
    const parents = entry.path.split('/').slice(0, entry.path.endsWith('/') ? -2 : -1);
    for (let path = ''; parents.length > 0;) {
      path += `${parents.shift()}/`;
      if (!this.#entries.has(path))
        this.#entries.set(path, { path, type: 'directory', mtimeSeconds: this.#mtime(path) });
    }
    this.#entries.set(entry.path, { mtimeSeconds: this.#mtime(entry.path), ...entry });
  }

  #mtime(path: string): number {
    return NEWEST_MTIME_SECONDS - this.#random.fork(`mtime/${path}`).integer(0, YEAR_SECONDS);
  }
}
