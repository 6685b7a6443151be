import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';

import type { DigestFiles } from '../blobs/digest-files.ts';
import { type Digest, digestOfLarge } from '../core/digest.ts';
import { MAX_ZTOC_BYTES } from '../ztoc/decode-ztoc.ts';

const compress = promisify(gzip);
const gunzipped = promisify(gunzip);

/** What is not as it was stored must not fill the memory. */
function decompress(compressed: Uint8Array): Promise<Buffer<ArrayBuffer>> {
  return gunzipped(compressed, { maxOutputLength: MAX_ZTOC_BYTES });
}

/** zTOCs by digest on disk. They are kept gzipped, a quarter of their size, which is also how clients like them best. */
export class ZtocStore {
  readonly #files: DigestFiles;

  constructor(files: DigestFiles) {
    this.#files = files;
  }

  /** @returns the form in which it is kept */
  async put(bytes: Uint8Array, digest: Digest): Promise<Uint8Array> {
    const compressed = await compress(bytes);
    await this.#files.write(digest, compressed);
    return compressed;
  }

  /** Keep what another replica has compressed, if it is what it claims to be. */
  async putCompressed(compressed: Uint8Array, digest: Digest): Promise<boolean> {
    const bytes = await decompress(compressed).catch(() => undefined);
    if (bytes === undefined || (await digestOfLarge(bytes)) !== digest) return false;
    await this.#files.write(digest, compressed);
    return true;
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#files.has(digest);
  }

  /** As stored: gzip. The client checks the digest of what comes out. */
  async readCompressed(digest: Digest): Promise<Buffer | undefined> {
    return this.#files.read(digest);
  }

  /** The zTOC, or `undefined` if it is not there or damaged (it is then removed). */
  async read(digest: Digest): Promise<Buffer | undefined> {
    const compressed = await this.#files.read(digest);
    if (compressed === undefined) return undefined;
    const bytes = await decompress(compressed).catch(() => undefined);
    if (bytes !== undefined && (await digestOfLarge(bytes)) === digest) return bytes;
    await this.#files.remove(digest);
    return undefined;
  }
}
