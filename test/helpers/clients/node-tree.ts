import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { NodeFiles } from '../../../src/cli/doctor/node-files.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** Files of a node that is not this machine, in a folder. */
export class NodeTree implements AsyncDisposable {
  readonly root: string;
  readonly files: NodeFiles;
  readonly #folder: TemporaryFolder;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
    this.root = folder.path;
    this.files = new NodeFiles(folder.path);
  }

  /** @param texts by their paths on the node */
  static async create(texts: Readonly<Record<string, string>>): Promise<NodeTree> {
    const tree = new NodeTree(await TemporaryFolder.create());
    await tree.add(texts);
    return tree;
  }

  /** @param texts as for {@link create} */
  async add(texts: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, text] of Object.entries(texts)) {
      const file = join(this.root, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
