import type { BlobStore } from '../blobs/blob-store.ts';
import type { Digest } from '../core/digest.ts';
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
   * The blob, gzip-encoded if the client can take that and it is worth it. A zTOC tells the names of files: it is given to those
   * who may have its layer's image. One that the store has lost is made again.
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
    if (this.#blobs.stat(digest) !== undefined) return undefined;
    const isOurs = this.#access.originOf(target, digest) !== undefined || (await this.#ztocs.has(digest));
    if (!isOurs) return undefined;
    await this.#access.check(target, digest, signal);
    const found = await this.#read(digest, acceptsGzip);
    if (found !== undefined || !(await this.#lost.restore(target, digest, signal))) return found;
    return this.#read(digest, acceptsGzip);
  }

  async #read(digest: Digest, acceptsGzip: boolean): Promise<DerivedBlob | undefined> {
    const bytes = await (acceptsGzip ? this.#ztocs.readCompressed(digest) : this.#ztocs.read(digest));
    return bytes && { bytes, encoding: acceptsGzip ? 'gzip' : undefined };
  }
}
