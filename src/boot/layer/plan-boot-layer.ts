import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { TreeNode } from '../../tree/tree-node.ts';
import { type BootPlan, type CopiedEntry, entryBytes } from './boot-plan.ts';
import { findEntries } from './find-entries.ts';
import { findFiles, findNode, parentsOf } from './find-files.ts';
import type { ImageLayers } from './image-layers.ts';

/** What a boot layer copies from an image. */
export interface PlannedBootLayer extends BootPlan {
  /** Paths of the files, hard links included, in the order of the tar. */
  readonly files: readonly RawText[];
  /** Without the end of the archive. */
  readonly tarBytes: number;
  /** True if files were left out because the tar would become too large. */
  readonly isCut: boolean;
}

/** A file with its hard links, as far as it can be copied. */
interface CopiedFile {
  readonly names: readonly RawText[];
  readonly entries: readonly Entry[];
}

type Entry = Omit<CopiedEntry, 'layer'> & { readonly layer: Digest };

/**
 * Chooses what the boot layer of an image copies. Unpacked over the image, it must change nothing, so a file
 * stays where it is if that is in doubt: if it has another name that is not in the image, if its entry or one
 * of a directory above it leads through a symbolic link, if several entries make the metadata. A directory
 * that is only implied gets no entry: nodes then copy its metadata from below.
 * @param wanted clean paths, the most wanted first
 * @param maxTarBytes the first file that does not fit is left out, with all after it
 * @throws SpandrelError IMAGE_UNSUPPORTED if directories of the image have default access control lists;
 * errors of `open` of the layers
 */
export async function planBootLayer(
  image: ImageLayers,
  wanted: Iterable<RawText>,
  maxTarBytes: number,
): Promise<PlannedBootLayer> {
  if (image.hasDefaultAcls)
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image has directories with default ACLs');
  const candidates = findFiles(image.root, wanted);
  const above = new Map<RawText, TreeNode>();
  for (const path of new Set(candidates.flatMap(({ names }) => names.flatMap(parentsOf)))) {
    const directory = findNode(image.root, path);
    if (directory !== undefined && directory.fault === undefined) above.set(path, directory);
  }
  const found = await findEntries(image, candidates, above);
  const isImplied = (path: RawText): boolean => above.has(path) && above.get(path)?.entry === undefined;
  const canBe = (path: RawText): boolean => found.directories.has(path) || isImplied(path);

  const files: CopiedFile[] = [];
  const directories = new Map<RawText, Entry>();
  let tarBytes = 0;
  let isCut = false;
  for (const candidate of candidates) {
    const entries = found.files.get(candidate);
    const parents = [...new Set(candidate.names.flatMap(parentsOf))];
    if (entries === undefined || !parents.every(canBe)) continue;
    const added = new Map(
      parents.flatMap((path) => {
        const entry = directories.has(path) ? undefined : found.directories.get(path);
        return entry === undefined ? [] : [[path, entry] as const];
      }),
    );
    const bytes = [...entries, ...added.values()].reduce((sum, entry) => sum + entryBytes(entry), 0);
    isCut = tarBytes + bytes > maxTarBytes;
    if (isCut) break;
    tarBytes += bytes;
    for (const [path, entry] of added) directories.set(path, entry);
    files.push({ names: candidate.names.toSorted(), entries });
  }
  return { ...orderEntries(files, directories), tarBytes, isCut };
}

/** Sorted by path, so that the order in which files were read does not matter. */
function orderEntries(
  files: readonly CopiedFile[],
  directories: ReadonlyMap<RawText, Entry>,
): Pick<PlannedBootLayer, 'layers' | 'entries' | 'files'> {
  const sorted = files.toSorted(({ names: [a = ''] }, { names: [b = ''] }) => (a < b ? -1 : 1));
  const all = [
    ...[...directories].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry),
    ...sorted.flatMap(({ entries }) => entries),
  ];
  const layers = [...new Set(all.map(({ layer }) => layer))].toSorted();
  return {
    layers,
    entries: all.map(({ layer, start, dataStart, end }) => ({
      layer: layers.indexOf(layer),
      start,
      dataStart,
      end,
    })),
    files: sorted.flatMap(({ names }) => names),
  };
}
