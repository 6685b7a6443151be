import type { Digest } from '../../core/digest.ts';
import { mapInTurns } from '../../core/work/in-own-turn.ts';
import { formatPageCursor, parsePageCursor } from '../../index/format-page-cursor.ts';
import { describeMode, type DescribedMode } from '../../tar/describe-mode.ts';
import { type Described, describeRawText, type RawText } from '../../tar/raw-text.ts';
import type { FoundPlace, ImageTree, TreePlace } from './image-tree.ts';
import type { TreeEntry } from '../../tree/tree-node.ts';

/** Text that is not UTF-8 comes with its bytes, percent-encoded. */
export interface DirectoryEntry extends Described<'name'>, DescribedMode, Partial<Described<'linkname'>> {
  /** The symbolic link leads to nothing in this image, or in a circle. */
  readonly dangling?: boolean;
  readonly type: string;
  readonly size: number;
  /** The layer that has the entry; null for a directory that is only implied. */
  readonly layer: Digest | null;
}

/** A page of a directory's entries, ordered by name. */
export interface DirectoryListing extends Described<'path'> {
  readonly entries: readonly DirectoryEntry[];
  /** The `after` of the next page, if there is one. */
  readonly next?: RawText;
}

export interface PageQuery {
  /** At least 1. */
  readonly limit: number;
  /** A name, or the `next` of the page before. */
  readonly after?: RawText | undefined;
}

/** Names that may be visited to find the dangling links of a page, and those for a single link. */
const MAX_LINK_STEPS = 200_000;
const MAX_STEPS_OF_LINK = 10_000;

/**
 * Lists a page, in several turns of the event loop.
 * @param directory found in `tree`
 */
export async function listDirectory(
  tree: ImageTree,
  directory: FoundPlace,
  { limit, after }: PageQuery,
): Promise<DirectoryListing> {
  const { start: first, end } = tree.childrenAfter(directory.place, undefined);
  const place = after === undefined ? undefined : parsePageCursor(after);
  const start = place === undefined ? tree.childrenAfter(directory.place, after).start : first + place;
  const places = Array.from({ length: Math.max(0, Math.min(limit, end - start)) }, (_, at) => start + at);
  const steps = { left: MAX_LINK_STEPS };
  const entries = await mapInTurns(places, (place) => describe(tree, directory.path, place, steps));
  const last = places.at(-1);
  return {
    ...describeRawText('path', directory.path as RawText),
    entries,
    ...(last === undefined || last + 1 === end
      ? {}
      : { next: formatPageCursor(tree.name(last), last + 1 - first) }),
  };
}

/** The type after unpacking. */
export function shownType({ type }: Pick<TreeEntry, 'type'>): string {
  return type === 'sparse' ? 'reg' : type;
}

function describe(tree: ImageTree, path: string, place: TreePlace, steps: { left: number }): DirectoryEntry {
  const { entry, layer, mode, fault } = tree.item(place);
  const name = tree.name(place);
  return {
    ...describeRawText('name', name),
    type: entry === undefined ? (fault === undefined ? 'dir' : 'unknown') : shownType(entry),
    size: entry?.uncompressedSize ?? 0,
    ...describeMode(mode),
    layer: layer ?? null,
    ...(entry?.type === 'symlink' ? describeLink(tree, `${path}/${name}` as RawText, entry, steps) : {}),
  };
}

function describeLink(
  tree: ImageTree,
  path: RawText,
  { linkname }: Pick<TreeEntry, 'linkname'>,
  steps: { left: number },
): Described<'linkname'> & { readonly dangling?: true } {
  const budget = { steps: Math.min(steps.left, MAX_STEPS_OF_LINK) };
  const before = budget.steps;
  const isDangling = tree.isDangling(path, budget);
  steps.left -= before - budget.steps;
  return { ...describeRawText('linkname', linkname), ...(isDangling === true ? { dangling: true } : {}) };
}
