import type { BlobStore } from '../blobs/blob-store.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { EMPTY_CONFIG, EMPTY_CONFIG_DIGEST } from '../soci/soci-index.ts';
import type { ZtocStore } from '../spans/ztoc-store.ts';
import type { BlobAccess } from './blob-access.ts';
import type { LostDocuments } from './lost-documents.ts';
import type { Target } from './target.ts';

export interface DerivedBlob {
  readonly bytes: Uint8Array;
  readonly encoding: 'gzip' | undefined;
}

/** Blobs that no upstream has because the proxy makes them: zTOCs, and the empty config that SOCI indexes name. */
export class DerivedBlobs {
  readonly #ztocs: ZtocStore;
  readonly #blobs: BlobStore;
  readonly #access: BlobAccess;
  readonly #lost: LostDocuments;

  constructor(ztocs: ZtocStore, blobs: BlobStore, access: BlobAccess, lost: LostDocuments) {
    this.#ztocs = ztocs;
    this.#blobs = blobs;
    this.#access = access;
    this.#lost = lost;
  }

  /**
   * The blob, gzip-encoded if the client can take that and it is worth it; nothing if this replica does not know it as one of ours. A zTOC
   * tells the names of files: it is given to those who may have its layer, or an image with that. One that the store has lost is made again.
   * @throws SpandrelError as {@link BlobAccess.check}, as fills and builds do
   */
  async get(
    target: Target,
    digest: Digest,
    acceptsGzip: boolean,
    signal: AbortSignal,
  ): Promise<DerivedBlob | undefined> {
    if (digest === EMPTY_CONFIG_DIGEST) return { bytes: EMPTY_CONFIG, encoding: undefined };
    // Most blobs are none of ours, and to find that out here spares a look at the disk.
    if (this.#blobs.stat(digest, target.client.name) !== undefined) return undefined;
    if (this.#access.groundsOf(target, digest) === undefined) {
      const isOurs = (await this.#ztocs.has(digest)) && (await this.#lost.findZtoc(target, digest, signal));
      return isOurs ? this.#read(digest, acceptsGzip) : undefined;
    }
    try {
      await this.#access.check(target, digest, signal);
      const found = await this.#read(digest, acceptsGzip);
      return found ?? (await this.make(target, digest, acceptsGzip, signal));
    } catch (error) {
      // The image that it was given with may be gone, or be one of another repository.
      const made =
        isSpandrelError(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN') &&
        (await this.make(target, digest, acceptsGzip, signal));
      if (!made) throw error;
      return made;
    }
  }

  /** As {@link get}, for a blob that neither this replica nor the upstream has: another replica may have named it. */
  async make(
    target: Target,
    digest: Digest,
    acceptsGzip: boolean,
    signal: AbortSignal,
  ): Promise<DerivedBlob | undefined> {
    // What has come from an upstream is none of ours.
    if (this.#blobs.stat(digest, target.client.name) !== undefined) return undefined;
    const isMade = await this.#lost.makeZtoc(target, digest, signal);
    return isMade ? this.#read(digest, acceptsGzip) : undefined;
  }

  async #read(digest: Digest, acceptsGzip: boolean): Promise<DerivedBlob | undefined> {
    const bytes = await (acceptsGzip ? this.#ztocs.readCompressed(digest) : this.#ztocs.read(digest));
    return bytes && { bytes, encoding: acceptsGzip ? 'gzip' : undefined };
  }
}
