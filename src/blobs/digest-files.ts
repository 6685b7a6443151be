import { randomUUID } from 'node:crypto';
import { access, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Digest, digestAlgorithm, digestHex } from '../core/digest.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';

/**
 * Small files in folders of their own, one for each digest; written whole or not at all. A folder belongs to one object at a time,
 * which removes what one before it has left half-written.
 */
export class DigestFiles {
  readonly #folder: string;
  readonly #isDurable: boolean;
  #temporaryFolder: Promise<string> | undefined;

  /**
   * @param options.durable false: a write does not wait for the disk, and a power failure may leave less than was written, for those
   * who check what they read
   */
  constructor(folder: string, options: { readonly durable?: boolean } = {}) {
    this.#folder = folder;
    this.#isDurable = options.durable ?? true;
  }

  path(digest: Digest): string {
    const hex = digestHex(digest);
    return join(this.#folder, digestAlgorithm(digest), hex.slice(0, 2), hex);
  }

  /** The file's bytes, as they are on disk: the caller checks them. */
  async read(digest: Digest): Promise<Buffer | undefined> {
    try {
      return await readFile(this.path(digest));
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  async has(digest: Digest): Promise<boolean> {
    return access(this.path(digest)).then(
      () => true,
      () => false,
    );
  }

  async write(digest: Digest, bytes: Uint8Array): Promise<void> {
    const path = this.path(digest);
    await mkdir(dirname(path), { recursive: true });
    // Two writers of one digest must not share a temporary file.
    const temporary = join(await (this.#temporaryFolder ??= this.#prepareTemporaryFolder()), randomUUID());
    try {
      const file = await open(temporary, 'wx');
      try {
        await file.writeFile(bytes);
        if (this.#isDurable) await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async #prepareTemporaryFolder(): Promise<string> {
    const folder = join(this.#folder, 'tmp');
    try {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
    } catch (error) {
      this.#temporaryFolder = undefined;
      throw error;
    }
    return folder;
  }

  async remove(digest: Digest): Promise<void> {
    await rm(this.path(digest), { force: true });
  }
}
