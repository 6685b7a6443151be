import { describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { ImageTree } from '../../src/images/files/image-tree.ts';
import { MergedTree } from '../../src/tree/merged-tree.ts';
import { packTree } from '../../src/images/files/pack-tree.ts';
import { EMPTY_RAW_TEXT, parseRawText } from '../../src/tar/raw-text.ts';
import type { EntryType, TocEntry } from '../../src/tar/toc-entry.ts';

let offset = 0;

function entry(type: EntryType, name: string, linkname = ''): TocEntry {
  return {
    name: parseRawText(name),
    type,
    linkname: parseRawText(linkname),
    uncompressedOffset: (offset += 512),
    uncompressedSize: 1,
    mode: 0o644,
    uid: 0,
    gid: 0,
    uname: EMPTY_RAW_TEXT,
    gname: EMPTY_RAW_TEXT,
    modTime: '1970-01-01T00:00:00Z',
    devMajor: 0,
    devMinor: 0,
    paxRecords: new Map(),
  };
}

const file = (name: string): TocEntry => entry('reg', name);
const dir = (name: string): TocEntry => entry('dir', name);
const symlink = (name: string, to: string): TocEntry => entry('symlink', name, to);
const hardlink = (name: string, to: string): TocEntry => entry('hardlink', name, to);

/** Digests of layers by position. */
const LAYERS = Array.from({ length: 6 }, (_, place) => digestOf(Buffer.from([place])));
const [FIRST] = LAYERS as [Digest];

const MAX_SIZE = { bytes: 64 * 2 ** 20, steps: 1_000_000 };

function merge(...layers: TocEntry[][]): ImageTree {
  const tree = new MergedTree(MAX_SIZE);
  for (const [place, entries] of layers.entries())
    tree.addLayer(LAYERS[place] ?? FIRST, entries, place === layers.length - 1);
  return new ImageTree(packTree(tree.root));
}

function namesIn(tree: ImageTree, path: string): string[] {
  const { start, end } = tree.childrenAfter(tree.resolve(parseRawText(path), true).place, undefined);
  return Array.from({ length: end - start }, (_, at) => tree.name(start + at));
}

const tooLarge = expect.objectContaining({ code: 'LAYER_TOO_LARGE' }) as Error;

function layerOf(tree: ImageTree, path: string): number | undefined {
  const { layer } = tree.item(tree.resolve(parseRawText(path), true).place);
  return layer && LAYERS.indexOf(layer);
}

function missing(tree: ImageTree, path: string): boolean {
  try {
    tree.resolve(parseRawText(path), true);
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: 'FILE_UNKNOWN' });
    return true;
  }
}

describe('MergedTree', () => {
  it('MergedTree lets upper layers replace files, and finds a path however it is written', () => {
    const tree = merge([dir('./etc/'), file('./etc/passwd'), file('a')], [file('etc/passwd')]);
    expect(layerOf(tree, '/etc/passwd')).toBe(1);
    expect(layerOf(tree, 'etc//./passwd')).toBe(1);
    expect(layerOf(tree, 'a')).toBe(0);
    expect(namesIn(tree, '')).toEqual(['a', 'etc']);
  });

  it('MergedTree hides what a whiteout names, with everything below it', () => {
    const tree = merge([file('d/x/y'), file('d/z'), file('f')], [file('d/.wh.x'), file('.wh.f')]);
    expect(missing(tree, 'd/x/y')).toBe(true);
    expect(missing(tree, 'f')).toBe(true);
    expect(layerOf(tree, 'd/z')).toBe(0);
  });

  it('MergedTree hides lower files of an opaque directory, but none of its own layer, in any order', () => {
    const tree = merge(
      [file('d/old'), file('e/old')],
      [file('d/new'), file('d/.wh..wh..opq'), file('e/.wh.new'), file('e/new')],
    );
    expect(missing(tree, 'd/old')).toBe(true);
    expect(layerOf(tree, 'd/new')).toBe(1);
    expect(layerOf(tree, 'e/new')).toBe(1);
    expect(layerOf(tree, 'e/old')).toBe(0);
  });

  it('MergedTree keeps the content of a directory listed again, not of one replaced by a file', () => {
    const tree = merge([dir('d'), file('d/x'), dir('e'), file('e/x')], [dir('d'), file('e')]);
    expect(layerOf(tree, 'd/x')).toBe(0);
    expect(layerOf(tree, 'd')).toBe(1);
    expect(layerOf(tree, 'e')).toBe(1);
    expect(missing(tree, 'e/x')).toBe(true);
  });

  it('MergedTree follows relative and absolute symbolic links in a path, and stays in the root', () => {
    const tree = merge([
      file('usr/lib/libc.so'),
      symlink('lib', 'usr/lib'),
      symlink('usr/abs', '/lib/libc.so'),
      symlink('up', '../../../../usr'),
      symlink('chain', 'up/abs'),
    ]);
    for (const path of ['lib/libc.so', 'usr/abs', 'up/lib/libc.so', 'chain', '../../lib/../lib/libc.so'])
      expect(layerOf(tree, path), path).toBe(0);
    expect(tree.resolve(parseRawText('chain'), true).path).toBe('usr/lib/libc.so');
  });

  it('MergedTree finds dangling links until its budget is spent', () => {
    const far = 'x/../'.repeat(500);
    const links = Array.from({ length: 20 }, (_, place) => symlink(`l${place}`, `${far}f`));
    const tree = merge([dir('x'), file('f'), ...links, symlink('gone', `${far}nothing`)]);
    const budget = { steps: 1500 };
    const told = [...links.keys()].map((place) => tree.isDangling(parseRawText(`l${place}`), budget));
    expect(told).toEqual([false, ...Array<undefined>(19).fill(undefined)]);
    expect(tree.isDangling(parseRawText('gone'), { steps: 1500 })).toBe(true);
  });

  it('MergedTree reports circular and dangling links as unknown files', () => {
    const tree = merge([symlink('a', 'b'), symlink('b', 'a'), symlink('gone', 'nowhere')]);
    expect(missing(tree, 'a')).toBe(true);
    expect(missing(tree, 'gone')).toBe(true);
  });

  it('MergedTree gives a hard link the data of its target, even if the target is replaced later', () => {
    const [first, second, third] = [file('a'), file('a'), file('a')];
    const tree = merge([first, hardlink('same', './a'), second], [third]);
    const offsetOf = (path: string): number | undefined =>
      tree.item(tree.resolve(parseRawText(path), true).place).entry?.uncompressedOffset;
    expect(layerOf(tree, 'same')).toBe(0);
    expect(offsetOf('same')).toBe(first.uncompressedOffset);
    expect(layerOf(tree, 'a')).toBe(1);
    expect(offsetOf('a')).toBe(third.uncompressedOffset);
  });

  it('MergedTree applies symbolic links of the same layer to paths of entries, no lower ones', () => {
    const tree = merge([dir('usr/lib'), symlink('lib', 'usr/lib'), file('lib/old.so')], [file('lib/new.so')]);
    expect(layerOf(tree, 'usr/lib/old.so')).toBe(0);
    expect(layerOf(tree, 'lib/new.so')).toBe(1);
    expect(missing(tree, 'usr/lib/new.so')).toBe(true);
    expect(missing(tree, 'lib/old.so')).toBe(true);
  });

  it('MergedTree keeps names that try to leave the root below it', () => {
    const tree = merge([file('../../etc/passwd'), file('/abs')]);
    expect(layerOf(tree, 'etc/passwd')).toBe(0);
    expect(layerOf(tree, 'abs')).toBe(0);
  });
});

describe('a hostile layer', () => {
  it('entries of a hostile layer with paths that no file system accepts are left out', () => {
    const long = 'd/'.repeat(500_000);
    const tree = merge([
      symlink('link', long),
      file('link/x'),
      file(`${long}x`),
      hardlink('hard', long),
      file('a'),
    ]);
    expect(tree.memoryBytes).toBeLessThan(10_000);
    expect(layerOf(tree, 'a')).toBe(0);
  });

  it('a hostile layer cannot exhaust memory with directories', () => {
    const deep = Array.from({ length: 6 }, (_, index) => file(`${index}/${'d/'.repeat(2000)}x`));
    expect(() => merge(deep)).not.toThrow();
    const small = new MergedTree({ bytes: 1_000_000, steps: 1_000_000 });
    expect(() => small.addLayer(FIRST, deep, true)).toThrow(tooLarge);
  });

  it('a hostile layer cannot cause endless symbolic links', () => {
    const tree = new MergedTree(MAX_SIZE);
    const turns = Array.from({ length: 40 }, (_, index) =>
      symlink(`l${index}`, `${'./'.repeat(2000)}l${index + 1}`),
    );
    const files = Array.from({ length: 1000 }, (_, index) => file(`l0/${index}`));
    expect(() => tree.addLayer(FIRST, [...turns, dir('l40'), ...files], true)).toThrow(tooLarge);
  });
});
