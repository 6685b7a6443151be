import { equal, ok } from 'node:assert/strict';

import { digestOf } from '../../../src/core/digest.ts';
import { isSpandrelError } from '../../../src/core/errors.ts';
import { ImageTree } from '../../../src/images/files/image-tree.ts';
import { MergedTree } from '../../../src/tree/merged-tree.ts';
import { packTree } from '../../../src/images/files/pack-tree.ts';
import type { RawText } from '../../../src/tar/raw-text.ts';
import type { EntryType, TocEntry } from '../../../src/tar/toc-entry.ts';
import type { Dice } from '../dice.ts';
import type { FuzzTarget } from '../target.ts';

const TYPES: readonly EntryType[] = [
  'reg',
  'dir',
  'dir',
  'symlink',
  'symlink',
  'hardlink',
  'char',
  'fifo',
  'sparse',
  'unknown',
];
const NAMES = [
  'a',
  'b',
  'c',
  '.',
  '..',
  '',
  '.wh.a',
  '.wh..wh..opq',
  '.wh.',
  '.wh...',
  '__proto__',
  'constructor',
  '\xff',
];
/** Longer than any path that operating systems accept. */
const LONG = [300, 5000, 150_000, 500_000] as const;
const MAX_SIZE = { bytes: 256 * 2 ** 20, steps: 20_000_000 };

const LAYER = digestOf(new Uint8Array());

type Entry = readonly [type: EntryType, name: string, linkname: string];

export const treeTarget: FuzzTarget = {
  name: 'merged-tree',
  claim: 'layers with hostile paths, links and whiteouts merge into a tree, or the image is refused',
  codes: ['LAYER_TOO_LARGE'],
  testCases: 1000,
  makeInput: (dice) => Buffer.from(JSON.stringify(makeLayers(dice)), 'latin1'),
  read(input, { dice }) {
    const layers = JSON.parse(input.toString('latin1')) as Entry[][];
    const merged = new MergedTree(MAX_SIZE);
    for (const [place, entries] of layers.entries())
      merged.addLayer(LAYER, entries.map(tocEntry), place === layers.length - 1);
    const tree = new ImageTree(packTree(merged.root));
    for (const [, name, linkname] of layers.flat().slice(0, 40)) {
      for (const path of [name, linkname, `${name}/../${linkname}`, pickPath(dice)])
        resolve(tree, path as RawText, dice.chance(0.5));
    }
  },
};

function resolve(tree: ImageTree, path: RawText, followLast: boolean): void {
  try {
    const { place, path: found } = tree.resolve(path, followLast);
    // A found node must be at its own path.
    equal(tree.resolve(found as RawText, false).place, place);
    ok(!found.split('/').includes('..'));
  } catch (error) {
    if (!isSpandrelError(error, 'FILE_UNKNOWN', 'TAR_INVALID')) throw error;
  }
}

function makeLayers(dice: Dice): Entry[][] {
  const alphabet = dice.chance(0.5) ? NAMES.slice(0, 3) : NAMES;
  const longs = { left: dice.chance(0.03) ? 3 : 0 };
  return Array.from({ length: dice.few(5) }, () =>
    Array.from({ length: 1 + dice.skewed(300) }, (): Entry => {
      const type = dice.pick(TYPES);
      const target = type === 'symlink' || type === 'hardlink' ? makePath(dice, alphabet, longs) : '';
      return [type, makePath(dice, alphabet, longs), target];
    }),
  );
}

function makePath(dice: Dice, alphabet: readonly string[], longs: { left: number }): string {
  if (longs.left > 0 && dice.chance(0.3)) {
    longs.left--;
    return `${dice.pick(alphabet)}${dice.pick(['/', '/a', '/../a', 'x', '/.'])}`
      .repeat(dice.pick(LONG))
      .slice(0, 2 ** 20);
  }
  return pickPath(dice, alphabet);
}

function pickPath(dice: Dice, alphabet: readonly string[] = NAMES): string {
  const segments = Array.from({ length: dice.few(6) }, () => dice.pick(alphabet));
  return `${dice.chance(0.2) ? '/' : ''}${segments.join('/')}${dice.chance(0.2) ? '/' : ''}`;
}

function tocEntry([type, name, linkname]: Entry): TocEntry {
  return {
    type,
    name: name as RawText,
    linkname: linkname as RawText,
    uncompressedOffset: 0,
    uncompressedSize: 0,
    mode: 0o644,
    uid: 0,
    gid: 0,
    uname: '' as RawText,
    gname: '' as RawText,
    modTime: '',
    devMajor: 0,
    devMinor: 0,
    paxRecords: new Map(),
  };
}
