import type { Layers } from '../layers/layer-kinds.ts';
import { dir, member, paxHeader } from '../layers/tar-members.ts';

/** Names that need no extension, PAX, or are no UTF-8. */
const NAMES = ['a', 'b', 'lib', 'caf\xe9', 'x y', `l${'o'.repeat(110)}ng`, `w${'i'.repeat(200)}de`];
const MODES = [0o644, 0o600, 0o755, 0o4711, 0o2755, 0o1777];
/** Links to files would make directories below them unreadable. */
const LINK_TARGETS = ['gone', '/gone/too', '../../gone', 'g\xf6ne'];
const MAX_DEPTH = 4;
const HUGE_BYTES = 700_000;
/** 1,700,000,000 s, as `tarHeader` has it, is what all others have. */
const TIMES = ['1600000000', '1500000000.123456789', '99999.5'];
const CAPABILITY = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

type Kind = 'dir' | 'file' | 'link' | 'whiteout';

/** An image that nodes unpack: a lower layer can be replaced, hidden and linked in every way. */
export function randomImageLayers(random: () => number): Layers {
  const lower = new Map<string, Kind>();
  const blocked = new Set<string>();
  return Array.from({ length: 2 + Math.floor(random() * 4) }, (_, place) => {
    const { members, made } = new RandomLayer(random, { lower, blocked, isLowest: place === 0 }).make();
    for (const [path, kind] of made) {
      lower.set(path, kind);
      if (kind !== 'dir') blocked.add(path);
    }
    return members;
  });
}

interface LowerLayers {
  /** The last of each path. */
  readonly lower: ReadonlyMap<string, Kind>;
  /** Paths that were no directory in some layer. */
  readonly blocked: ReadonlySet<string>;
  readonly isLowest: boolean;
}

class RandomLayer {
  readonly #random: () => number;
  readonly #lower: ReadonlyMap<string, Kind>;
  readonly #blocked: ReadonlySet<string>;
  readonly #isLowest: boolean;
  readonly #made = new Map<string, Kind>();
  readonly #members: Buffer[] = [];

  constructor(random: () => number, { lower, blocked, isLowest }: LowerLayers) {
    this.#random = random;
    this.#lower = lower;
    this.#blocked = blocked;
    this.#isLowest = isLowest;
  }

  make(): { readonly members: readonly Buffer[]; readonly made: ReadonlyMap<string, Kind> } {
    for (let left = 4 + Math.floor(this.#random() * 22); left > 0; left--) this.#add();
    return { members: this.#members, made: this.#made };
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.#random() * choices.length)] as T;
  }

  #isChance(share: number): boolean {
    return this.#random() < share;
  }

  #add(): void {
    const path = this.#newPath();
    if (path === undefined) return;
    const kind = this.#random();
    const own = this.#made.get(path);
    const hasBelow = [...this.#made.keys()].some((other) => other.startsWith(`${path}/`));
    if (kind < 0.22) {
      if (own === undefined || own === 'dir')
        this.#put(path, 'dir', [...this.#pax(true), dir(`${this.#written(path)}/`, this.#owner())]);
      return;
    }
    if (kind < 0.27 && !this.#isLowest) {
      const opaque = `${path}/.wh..wh..opq`;
      if ((own === undefined || own === 'dir') && this.#isFree(opaque))
        this.#put(path, 'dir', [member({ name: opaque })]);
      return;
    }
    if (own !== undefined || hasBelow) return;
    if (kind < 0.36)
      this.#put(path, 'link', [member({ name: path, typeflag: '2', linkname: this.#pick(LINK_TARGETS) })]);
    else if (kind < 0.48) this.#hide(path);
    else if (kind < 0.6) this.#link(path);
    else if (kind < 0.64) this.#put(path, 'file', [member({ name: path, typeflag: '6' })]);
    else if (kind < 0.68) this.#put(path, 'file', this.#sparse(path));
    else this.#put(path, 'file', [...this.#pax(false), this.#file(path)]);
  }

  /** A path below which nothing of this layer is in the way. */
  #newPath(): string | undefined {
    const known = [...this.#lower.keys(), ...this.#made.keys()];
    if (known.length > 0 && this.#isChance(0.4)) {
      const path = this.#pick(known);
      return this.#isFree(path) ? path : undefined;
    }
    const names = Array.from({ length: 1 + Math.floor(this.#random() * MAX_DEPTH) }, () => this.#pick(NAMES));
    const path = names.join('/');
    return this.#isFree(path) ? path : undefined;
  }

  /** containerd refuses a directory that is only implied and has a file of a lower layer above it. */
  #isFree(path: string): boolean {
    const segments = path.split('/');
    const parents = segments.slice(0, -1).map((_, place) => segments.slice(0, place + 1).join('/'));
    return (
      parents.every((parent) => ['dir', undefined].includes(this.#made.get(parent))) &&
      !parents.slice(0, -1).some((parent) => this.#blocked.has(parent))
    );
  }

  #put(path: string, kind: Kind, members: readonly Buffer[]): void {
    this.#members.push(...members);
    this.#made.set(path, kind);
  }

  #hide(path: string): void {
    if (this.#isLowest || !this.#lower.has(path)) return;
    const cut = path.lastIndexOf('/') + 1;
    const name = `.wh.${path.slice(cut)}`;
    if (name.length < 255) this.#put(path, 'whiteout', [member({ name: `${path.slice(0, cut)}${name}` })]);
  }

  #link(path: string): void {
    const files = [...this.#made].flatMap(([name, kind]) => (kind === 'file' ? [name] : []));
    if (files.length === 0) return;
    const linkname = this.#pick(files);
    this.#put(path, 'file', [
      ...this.#pax(false),
      member({ name: path, linkname, typeflag: '1', ...this.#owner() }),
    ]);
  }

  #sparse(path: string): readonly Buffer[] {
    const data = Buffer.from('end of a sparse file');
    const map = `8192,${data.length}`;
    const records = { 'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.numblocks': '1' };
    const size = {
      'GNU.sparse.map': map,
      'GNU.sparse.size': `${8192 + data.length}`,
      'GNU.sparse.name': path,
    };
    return [paxHeader({ ...records, ...size }), member({ name: 'GNUSparseFile', data })];
  }

  #file(path: string): Buffer {
    const bytes = this.#isChance(0.04) ? HUGE_BYTES : Math.floor(this.#random() ** 3 * 3000);
    const data = Buffer.alloc(bytes, `${path} ${this.#random()}`, 'latin1');
    return member({ name: this.#written(path), data, ...this.#owner() });
  }

  #owner(): { mode: number; uid: number; gid: number } {
    return { mode: this.#pick(MODES), uid: this.#pick([0, 7, 70_000]), gid: this.#pick([0, 9]) };
  }

  /** The same path in another way. */
  #written(path: string): string {
    return path.length < 90 ? this.#pick([path, path, `./${path}`, `/${path}`]) : path;
  }

  /** Headers that the next entry has, besides that with its long name. */
  #pax(isDirectory: boolean): readonly Buffer[] {
    const global = this.#isChance(0.05) ? [paxHeader({ comment: 'of all', mtime: '1' }, 'g')] : [];
    return global.length > 0 || this.#isChance(0.5)
      ? global
      : [
          paxHeader({
            mtime: this.#pick(TIMES),
            ...(this.#isChance(isDirectory ? 0.2 : 0.4)
              ? { 'SCHILY.xattr.user.note': `${this.#random()}` }
              : {}),
            ...(!isDirectory && this.#isChance(0.3)
              ? { 'SCHILY.xattr.security.capability': CAPABILITY }
              : {}),
          }),
        ];
  }
}
