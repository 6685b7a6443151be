import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { TreeNode } from '../../tree/tree-node.ts';
import type { CopiedEntry } from './boot-plan.ts';
import { findEntries, type FoundEntry } from './find-entries.ts';
import { findFiles, findNode, parentsOf } from './find-files.ts';
import type { ImageLayers } from './image-layers.ts';

/** An entry that a boot layer can copy. */
export type Copy = Omit<CopiedEntry, 'layer'> & { readonly layer: Digest };

/** A file that a boot layer can copy. */
export interface FileCopy {
  /** All of its names, sorted. */
  readonly names: readonly RawText[];
  /** The file, and then its hard links. */
  readonly entries: readonly Copy[];
}

/** What a boot layer of an image can copy. */
export interface Copies {
  /** The most wanted first. */
  readonly files: readonly FileCopy[];
  /** Directories above the files, by path. One that is only implied has no entry. */
  readonly directories: ReadonlyMap<RawText, Copy>;
}

/**
 * Finds what the boot layer of an image can copy. Unpacked over the image, it must change nothing, so a file
 * stays where it is if that is in doubt: if it has another name that is not in the image, if its entry or one
 * of a directory above it leads through a symbolic link, if several entries make the metadata. A directory
 * that is only implied gets no entry: nodes then copy its metadata from below.
 * @param wanted clean paths, the most wanted first
 * @throws SpandrelError IMAGE_UNSUPPORTED if directories of the image have default access control lists;
 * errors of `open` of the layers
 */
export async function findCopies(image: ImageLayers, wanted: Iterable<RawText>): Promise<Copies> {
  if (image.hasDefaultAcls)
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image has directories with default ACLs');
  const candidates = findFiles(image.root, wanted);
  const above = new Map<RawText, TreeNode>();
  for (const path of new Set(candidates.flatMap(({ names }) => names.flatMap(parentsOf)))) {
    const directory = findNode(image.root, path);
    if (directory !== undefined && directory.fault === undefined) above.set(path, directory);
  }
  const found = await findEntries(image, candidates, above);
  const canBe = (path: RawText): boolean => {
    const directory = above.get(path);
    return found.directories.has(path) || (directory !== undefined && directory.entry === undefined);
  };
  const files = candidates.flatMap((candidate) => {
    const entries = found.files.get(candidate);
    if (entries === undefined || !candidate.names.flatMap(parentsOf).every(canBe)) return [];
    return [{ names: candidate.names.toSorted(), entries: entries.map(toCopy) }];
  });
  const directories = new Map([...found.directories].map(([path, entry]) => [path, toCopy(entry)]));
  return { files, directories };
}

function toCopy({ layer, start, dataStart, end }: FoundEntry): Copy {
  return { layer, start, dataStart, end };
}
