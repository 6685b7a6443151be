import type { Digest } from '../../core/digest.ts';
import { cleanPath, type RawText } from '../../tar/raw-text.ts';
import { storedEnd } from '../../tar/stored-file.ts';
import { TAR_BLOCK_BYTES } from '../../tar/tar-header.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import type { TreeNode } from '../../tree/tree-node.ts';
import type { CopiedEntry } from './boot-plan.ts';
import type { FoundFile } from './find-files.ts';
import { type ImageLayers, isOverlayMark } from './image-layers.ts';

/** What is wanted of one layer. Keys of maps: where the data of entries start, and clean names. */
interface Wanted {
  readonly files: Map<number, FoundFile>;
  readonly directories: Map<number, RawText>;
  readonly links: Map<RawText, FoundFile>;
}

/** An entry that may be copied: it is unpacked at its name, and to what it is in the image. */
export interface FoundEntry extends Omit<CopiedEntry, 'layer'> {
  readonly layer: Digest;
  readonly linkname: RawText;
}

/** Entries of files and directories that can be copied; the others are missing. */
export interface FoundEntries {
  /** All entries of a file: the file, and then its hard links, in archive order. */
  readonly files: ReadonlyMap<FoundFile, readonly FoundEntry[]>;
  readonly directories: ReadonlyMap<RawText, FoundEntry>;
}

/**
 * Finds the entries of files and directories in one pass over each layer that has some.
 * @param directories by path; those without an entry are ignored
 */
export async function findEntries(
  image: ImageLayers,
  files: readonly FoundFile[],
  directories: ReadonlyMap<RawText, TreeNode>,
): Promise<FoundEntries> {
  const byLayer = new Map<Digest, Wanted>();
  const wantedOf = (layer: Digest): Wanted => {
    const wanted = byLayer.get(layer) ?? { files: new Map(), directories: new Map(), links: new Map() };
    byLayer.set(layer, wanted);
    return wanted;
  };
  for (const file of files) {
    const wanted = wantedOf(file.layer);
    wanted.files.set(file.entry.uncompressedOffset, file);
    if (file.names.length > 1) for (const name of file.names) wanted.links.set(name, file);
  }
  for (const [path, { layer, entry, isRepeated = false }] of directories) {
    // An earlier entry may have left attributes.
    if (layer === undefined || entry === undefined || (isRepeated && image.hasDirectoryXattrs)) continue;
    wantedOf(layer).directories.set(entry.uncompressedOffset, path);
  }
  const found: Found = { files: new Map(), links: new Map(), directories: new Map() };
  for (const [layer, wanted] of byLayer)
    scanLayer(layer, (await image.byDigest.get(layer)?.open()) ?? [], wanted, found);
  return {
    directories: found.directories,
    files: new Map(files.flatMap((file) => [[file, groupOf(file, found)] as const]).filter(isComplete)),
  };
}

interface Found {
  readonly files: Map<FoundFile, { readonly name: RawText; readonly entry: FoundEntry }>;
  /** The last hard link of each name. */
  readonly links: Map<FoundFile, Map<RawText, FoundEntry>>;
  readonly directories: Map<RawText, FoundEntry>;
}

function scanLayer(layer: Digest, entries: Iterable<TocEntry>, wanted: Wanted, found: Found): void {
  /** `undefined` after an entry whose end is unknown. */
  let start: number | undefined = 0;
  for (const entry of entries) {
    const end = storedEnd(entry);
    const { uncompressedOffset: dataStart, type, linkname } = entry;
    if (start !== undefined && !isOverlayMark(entry)) {
      const here = { layer, start, dataStart, end, linkname };
      const file = wanted.files.get(dataStart);
      const directory = wanted.directories.get(dataStart);
      const name = cleanPath(entry.name);
      if (file !== undefined) found.files.set(file, { name, entry: here });
      else if (directory === name) found.directories.set(name, here);
      else if (type === 'hardlink') noteLink(wanted.links.get(name), name, here, found);
    }
    start = nextStart(entry, end);
  }
}

function noteLink(file: FoundFile | undefined, name: RawText, entry: FoundEntry, found: Found): void {
  if (file === undefined) return;
  const links = found.links.get(file) ?? new Map<RawText, FoundEntry>();
  links.set(name, entry);
  found.links.set(file, links);
}

/** Where the headers of the next entry start. The size of an entry that nobody can read is unknown. */
function nextStart({ type }: TocEntry, end: number): number | undefined {
  return type === 'unknown' ? undefined : Math.ceil(end / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

/** The entries of a file; `undefined` if one of them is named otherwise, or links to something else. */
function groupOf(file: FoundFile, found: Found): readonly FoundEntry[] | undefined {
  const first = found.files.get(file);
  if (first === undefined || !file.names.includes(first.name)) return undefined;
  const entries = [first.entry];
  const names = new Set([first.name]);
  const links = [...(found.links.get(file) ?? [])].filter(([name]) => name !== first.name);
  for (const [name, link] of links.toSorted(([, a], [, b]) => a.start - b.start)) {
    if (link.start < first.entry.start || !names.has(cleanPath(link.linkname))) return undefined;
    entries.push(link);
    names.add(name);
  }
  return names.size === file.names.length ? entries : undefined;
}

function isComplete(
  pair: readonly [FoundFile, readonly FoundEntry[] | undefined],
): pair is readonly [FoundFile, readonly FoundEntry[]] {
  return pair[1] !== undefined;
}
