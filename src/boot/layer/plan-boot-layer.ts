import type { RawText } from '../../tar/raw-text.ts';
import { type BootPlan, entryBytes } from './boot-plan.ts';
import type { Copies, Copy, FileCopy } from './find-copies.ts';
import { parentsOf } from './find-files.ts';

/** What a boot layer copies from an image. */
export interface PlannedBootLayer extends BootPlan {
  /** Paths of the files, hard links included, in the order of the tar. */
  readonly files: readonly RawText[];
  /** Without the end of the archive. */
  readonly tarBytes: number;
}

/**
 * Chooses the most wanted files, and orders them by path: the order in which they are wanted only decides
 * which ones fit.
 * @param maxTarBytes the first file that does not fit is left out, with all after it
 */
export function planBootLayer({ files, directories }: Copies, maxTarBytes: number): PlannedBootLayer {
  const chosen: FileCopy[] = [];
  const above = new Map<RawText, Copy>();
  let tarBytes = 0;
  for (const file of files) {
    const added = new Map<RawText, Copy>();
    for (const path of file.names.flatMap(parentsOf)) {
      const directory = directories.get(path);
      if (directory !== undefined && !above.has(path)) added.set(path, directory);
    }
    const bytes = [...file.entries, ...added.values()].reduce((sum, entry) => sum + entryBytes(entry), 0);
    if (tarBytes + bytes > maxTarBytes) break;
    tarBytes += bytes;
    for (const [path, directory] of added) above.set(path, directory);
    chosen.push(file);
  }
  return { ...orderEntries(chosen, above), tarBytes };
}

function orderEntries(
  chosen: readonly FileCopy[],
  directories: ReadonlyMap<RawText, Copy>,
): Pick<PlannedBootLayer, 'layers' | 'entries' | 'files'> {
  const files = chosen.toSorted(({ names: [a = ''] }, { names: [b = ''] }) => (a < b ? -1 : 1));
  const all = [
    ...[...directories].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry),
    ...files.flatMap(({ entries }) => entries),
  ];
  const layers = [...new Set(all.map(({ layer }) => layer))].toSorted();
  return {
    layers,
    entries: all.map(({ layer, ...entry }) => ({ ...entry, layer: layers.indexOf(layer) })),
    files: files.flatMap(({ names }) => names),
  };
}
