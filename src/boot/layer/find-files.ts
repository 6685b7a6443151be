import type { Digest } from '../../core/digest.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { TreeEntry, TreeNode } from '../../tree/tree-node.ts';

/** A regular file of a merged image, under all of its names. */
export interface FoundFile {
  readonly layer: Digest;
  readonly entry: TreeEntry;
  /** Clean; the wanted one first. */
  readonly names: readonly RawText[];
}

/** Types that nodes unpack as regular files. */
const FILE_TYPES: readonly string[] = ['reg', 'sparse'];

/**
 * The regular files at these paths, each once, in the order of the paths. Symbolic links are not followed. A
 * hard-linked file is left out if some of its names are gone or lead to another file.
 */
export function findFiles(root: TreeNode, paths: Iterable<RawText>): FoundFile[] {
  const wanted = new Map<TreeNode, RawText>();
  for (const path of paths) {
    const node = findNode(root, path);
    if (node !== undefined && !wanted.has(node)) wanted.set(node, path);
  }
  const linked = new Set([...wanted.keys()].filter(({ links = 0 }) => links > 0));
  const namesOf = findNames(root, linked);
  return [...wanted].flatMap(([node, path]) => {
    const { layer, entry, links = 0, fault } = node;
    if (layer === undefined || entry === undefined || fault !== undefined) return [];
    if (!FILE_TYPES.includes(entry.type)) return [];
    const others = (namesOf.get(node) ?? []).filter((name) => name !== path);
    return others.length === links ? [{ layer, entry, names: [path, ...others] }] : [];
  });
}

/** The directories above a path, the outermost first, without the root. */
export function parentsOf(path: RawText): RawText[] {
  const parents: RawText[] = [];
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1))
    parents.push(path.slice(0, at) as RawText);
  return parents;
}

/** The node at a path; `undefined` if there is none, or if something on the way is unknown. */
export function findNode(root: TreeNode, path: RawText): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const segment of path.split('/')) {
    if (node?.fault !== undefined) return undefined;
    node = node?.children?.get(segment);
  }
  return node;
}

/** All names of some nodes, in one walk through the tree. */
function findNames(root: TreeNode, nodes: ReadonlySet<TreeNode>): Map<TreeNode, RawText[]> {
  const names = new Map<TreeNode, RawText[]>();
  if (nodes.size === 0) return names;
  const todo = [{ path: '', directory: root }];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    for (const [name, node] of next.directory.children ?? []) {
      const path = `${next.path}${name}`;
      if (node.children !== undefined) todo.push({ path: `${path}/`, directory: node });
      else if (nodes.has(node)) names.set(node, [...(names.get(node) ?? []), path as RawText]);
    }
  }
  return names;
}
