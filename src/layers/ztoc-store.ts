import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';

import { isPassingFault, storeFault } from '../blobs/files/store-fault.ts';
import type { DigestFiles } from '../blobs/shelves/digest-files.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import { type Digest, digestAlgorithm, digestOfLarge } from '../core/digest.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { MAX_FLATBUFFER_BYTES } from '../ztoc/decode-ztoc.ts';

const compress = promisify(gzip);
const gunzipped = promisify(gunzip);

/** Bounded, as the file may be damaged. */
function decompress(compressed: Uint8Array): Promise<Buffer<ArrayBuffer>> {
  return gunzipped(compressed, { maxOutputLength: MAX_FLATBUFFER_BYTES });
}

const MAX_REMEMBERED = 10_000;
const GZIP_SIZE_BYTES = 4;

/**
 * zTOCs on disk by digest. They are stored gzipped, at a quarter of their size, and sent to clients in that
 * form.
 */
export class ZtocStore {
  readonly #files: DigestFiles;
  /** Digests of the stored forms of zTOCs that were verified. */
  readonly #verified = new BoundedMap<{ readonly digest: Digest }>({ maxEntries: MAX_REMEMBERED });

  constructor(files: DigestFiles) {
    this.#files = files;
  }

  /**
   * @returns the stored form
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async put(bytes: Uint8Array, digest: Digest): Promise<Uint8Array> {
    const compressed = await compress(bytes);
    await this.#files.write(digest, compressed);
    return compressed;
  }

  /**
   * Stores what another replica has compressed, if it has the digest.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async putCompressed(compressed: Uint8Array, digest: Digest): Promise<boolean> {
    if ((await decompressVerified(compressed, digest)) === undefined) return false;
    await this.#files.write(digest, compressed);
    return true;
  }

  async remove(digest: Digest): Promise<void> {
    await this.#files.remove(digest);
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#files.has(digest);
  }

  /**
   * Sizes of the stored form and of the zTOC; `undefined` if it is missing. Not reliable for a damaged file.
   * @throws SpandrelError STORE_FAILED for a reason other than the file
   */
  async sizes(
    digest: Digest,
  ): Promise<{ readonly storedBytes: number; readonly plainBytes: number } | undefined> {
    try {
      await using file = await open(this.#files.path(digest), constants.O_RDONLY | constants.O_NONBLOCK);
      const { size: storedBytes } = await file.stat();
      // RFC 1952, section 2.3.1: the last field is the size of the input.
      const last = Buffer.alloc(GZIP_SIZE_BYTES);
      await file.read(last, 0, GZIP_SIZE_BYTES, Math.max(0, storedBytes - GZIP_SIZE_BYTES));
      return { storedBytes, plainBytes: last.readUInt32LE() };
    } catch (error) {
      if (nodeErrorCode(error) === '') throw error;
      if (isPassingFault(error)) throw storeFault(error, 'read a zTOC');
      return undefined;
    }
  }

  /**
   * The stored form, gzip; `undefined` if it is missing or damaged. A damaged file is removed.
   * @throws SpandrelError STORE_FAILED
   */
  async readCompressed(digest: Digest): Promise<Buffer | undefined> {
    const compressed = await this.#files.read(digest);
    if (compressed === undefined) return undefined;
    const keptAs = await digestOfLarge(Uint8Array.from(compressed));
    const known = this.#verified.get(digest);
    if (known?.digest === keptAs) return compressed;
    if ((await decompressVerified(compressed, digest)) !== undefined) {
      this.#verified.set(digest, { digest: keptAs });
      return compressed;
    }
    await this.#files.condemn(digest);
    return undefined;
  }

  /**
   * The zTOC; `undefined` if it is missing or damaged. A damaged file is removed.
   * @throws SpandrelError STORE_FAILED
   */
  async read(digest: Digest): Promise<Buffer | undefined> {
    const compressed = await this.#files.read(digest);
    if (compressed === undefined) return undefined;
    const bytes = await decompressVerified(compressed, digest);
    if (bytes === undefined) await this.#files.condemn(digest);
    return bytes;
  }
}

/** The decompressed bytes, if they have the digest. */
async function decompressVerified(compressed: Uint8Array, digest: Digest): Promise<Buffer | undefined> {
  const bytes = await decompress(compressed).catch(() => undefined);
  return bytes !== undefined && (await digestOfLarge(bytes, digestAlgorithm(digest))) === digest
    ? bytes
    : undefined;
}
