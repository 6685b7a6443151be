import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { NodeFiles } from '../../src/cli/doctor/node-files.ts';

/** Files of a node that is not this machine, in a folder. */
export class NodeTree implements AsyncDisposable {
  readonly root: string;
  readonly files: NodeFiles;

  private constructor(root: string) {
    this.root = root;
    this.files = new NodeFiles(root);
  }

  /** @param texts by their paths on the node */
  static async create(texts: Readonly<Record<string, string>>): Promise<NodeTree> {
    const tree = new NodeTree(await mkdtemp(join(tmpdir(), 'spandrel-node-')));
    for (const [path, text] of Object.entries(texts)) {
      const file = join(tree.root, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
    return tree;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }
}
