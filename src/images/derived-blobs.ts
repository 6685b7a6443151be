import type { Digest } from '../core/digest.ts';
import { EMPTY_CONFIG, EMPTY_CONFIG_DIGEST } from '../soci/soci-index.ts';
import type { ZtocStore } from '../spans/ztoc-store.ts';

export interface DerivedBlob {
  readonly bytes: Uint8Array;
  readonly encoding: 'gzip' | undefined;
}

/** Blobs that no upstream has because the proxy makes them: zTOCs, and the empty config that SOCI indexes name. */
export class DerivedBlobs {
  readonly #ztocs: ZtocStore;

  constructor(ztocs: ZtocStore) {
    this.#ztocs = ztocs;
  }

  /** The blob, gzip-encoded if the client can take that and it is worth it. */
  async get(digest: Digest, acceptsGzip: boolean): Promise<DerivedBlob | undefined> {
    if (digest === EMPTY_CONFIG_DIGEST) return { bytes: EMPTY_CONFIG, encoding: undefined };
    if (acceptsGzip) {
      const compressed = await this.#ztocs.readCompressed(digest);
      if (compressed !== undefined) return { bytes: compressed, encoding: 'gzip' };
    }
    const bytes = await this.#ztocs.read(digest);
    return bytes === undefined ? undefined : { bytes, encoding: undefined };
  }
}
