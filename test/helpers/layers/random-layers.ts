import type { Layers } from './layer-kinds.ts';
import { device, dir, file, hardlink, symlink } from './tar-members.ts';

const NAMES = ['a', 'b', 'c', 'd'];
/** Mostly to directories that no layer has anything else for. */
const LINK_TARGETS = ['E', 'E/F', '../E', '/E/F', '../../F', '/F/../E', './F/', 'gone'];
const MAX_DEPTH = 3;
const MAX_LAYERS = 5;
const MAX_MEMBERS = 14;
const THROUGH_LINKS = 0.1;

type Kind = 'dir' | 'file' | 'link' | 'whiteout';

/**
 * Layers that replace, hide and link the few names there are. Most can be unpacked: not all, if something
 * lies behind a link.
 */
export function randomLayers(random: () => number): Layers {
  const layers = 2 + Math.floor(random() * (MAX_LAYERS - 1));
  return Array.from({ length: layers }, (_, layer) => randomLayer(random, layer));
}

function randomLayer(random: () => number, layer: number): Buffer[] {
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  /** What this layer has so far, by path. */
  const made = new Map<string, Kind>();
  const members: Buffer[] = [];
  for (let left = 1 + Math.floor(random() * MAX_MEMBERS); left > 0; left--) {
    const names = Array.from({ length: 1 + Math.floor(random() * MAX_DEPTH) }, () => pick(NAMES));
    const path = names.join('/');
    const parents = names.slice(0, -1).map((_, place) => names.slice(0, place + 1).join('/'));
    const inTheWay = random() < THROUGH_LINKS ? ['file', 'whiteout'] : ['file', 'whiteout', 'link'];
    if (parents.some((parent) => inTheWay.includes(made.get(parent) ?? ''))) continue;
    const own = made.get(path);
    const below = [...made.keys()].filter((other) => other.startsWith(`${path}/`));
    const files = [...made]
      .filter(([other, kind]) => kind === 'file' && other !== path)
      .map(([name]) => name);
    const owner = { mode: pick([0o644, 0o600, 0o755, 0o4711]), uid: pick([0, 7]), gid: pick([0, 9]) };
    const kind = random();
    if (kind < 0.25) {
      members.push(dir(`${path}/`, owner));
      made.set(path, 'dir');
    } else if (kind < 0.35) {
      if (layer === 0 || own === 'file' || own === 'whiteout' || own === 'link') continue;
      members.push(file(`${path}/.wh..wh..opq`, ''));
      made.set(path, 'dir');
    } else if (own === 'dir' || below.length > 0) {
      // A node refuses a layer whose directories are gone at its end.
      continue;
    } else if (kind < 0.5) {
      members.push(symlink(path, pick(LINK_TARGETS)));
      made.set(path, 'link');
    } else if (kind < 0.65) {
      if (own !== undefined) continue;
      members.push(file([...names.slice(0, -1), `.wh.${names.at(-1)}`].join('/'), ''));
      made.set(path, 'whiteout');
    } else if (kind < 0.72 && files.length > 0) {
      members.push(hardlink(path, pick(files), owner));
      made.set(path, 'file');
    } else {
      const text = `${path} of layer ${layer}, ${left}`;
      members.push(random() < 0.06 ? device(path, '3', 1, 3) : file(path, text, owner));
      made.set(path, 'file');
    }
  }
  return members;
}
