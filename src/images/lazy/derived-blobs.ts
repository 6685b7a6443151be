import type { BlobStore } from '../../blobs/blob-store.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import { EMPTY_CONFIG, EMPTY_CONFIG_DIGEST } from '../../soci/soci-index.ts';
import type { ZtocStore } from '../../layers/ztoc-store.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { PrefetchAnswers } from '../proofs/prefetch-answers.ts';
import type { RecordedPrefetch } from '../proofs/prefetch-record.ts';
import type { LostDocuments } from './lost-documents.ts';
import type { Target } from '../../upstream/target.ts';

export interface DerivedBlobsDeps {
  /** zTOCs of layers, and those over their tars. */
  readonly ztocs: readonly ZtocStore[];
  readonly blobs: BlobStore;
  readonly proofs: BlobProofs;
  readonly lostDocuments: LostDocuments;
  readonly prefetchAnswers: PrefetchAnswers;
  /** Memory for zTOCs that are being sent, in stored and plain form; more requests wait. */
  readonly maxBytes: number;
}

export interface DerivedBlob {
  readonly bytes: Uint8Array;
  readonly encoding: 'gzip' | undefined;
  /** Call when the bytes are no longer needed. */
  readonly release: () => void;
}

/** How a client wants a blob. */
export interface DerivedBlobRequest {
  readonly acceptsGzip: boolean;
  /** Fairness key of the wait for memory. */
  readonly fairnessKey: string;
  readonly signal: AbortSignal;
}

const MAX_WAITING = 1000;

/**
 * Blobs that the proxy makes and no upstream has: zTOCs, prefetch artifacts, and the empty config of SOCI
 * indexes.
 */
export class DerivedBlobs {
  readonly #ztocs: readonly ZtocStore[];
  readonly #blobs: BlobStore;
  readonly #proofs: BlobProofs;
  readonly #lost: LostDocuments;
  readonly #prefetchAnswers: PrefetchAnswers;
  /** Memory of the zTOCs that are being sent. */
  readonly #memory: WorkQueue;

  constructor(deps: DerivedBlobsDeps) {
    const { ztocs, blobs, proofs, lostDocuments, maxBytes } = deps;
    this.#ztocs = ztocs;
    this.#blobs = blobs;
    this.#proofs = proofs;
    this.#lost = lostDocuments;
    this.#prefetchAnswers = deps.prefetchAnswers;
    this.#memory = new WorkQueue({ maxRunning: maxBytes, maxWaiting: MAX_WAITING });
  }

  /**
   * The blob, gzip-encoded if the client accepts that; `undefined` if this replica does not know it as
   * derived. A zTOC reveals file names, so it is given only to repositories that have its layer or an image
   * with it; a prefetch artifact to those that have its layer. A zTOC that the store has lost is made again.
   * @throws SpandrelError as {@link BlobProofs.authorize}; errors of fills and builds
   */
  async get(target: Target, digest: Digest, request: DerivedBlobRequest): Promise<DerivedBlob | undefined> {
    const { signal } = request;
    if (digest === EMPTY_CONFIG_DIGEST) return plainBlob(EMPTY_CONFIG);
    const artifacts = this.#prefetchAnswers.knownArtifact(digest);
    const artifact = await this.#openArtifact(target, artifacts, signal);
    if (artifact !== undefined) return artifact;
    // Most blobs are not derived; this test needs no disk access.
    if (this.#blobs.stat(digest, target.client.name) !== undefined) return undefined;
    if (this.#proofs.derivationOf(target, digest) === undefined) {
      const isOurs =
        (await this.#storeOf(digest)) !== undefined && (await this.#lost.findZtoc(target, digest, signal));
      return isOurs ? this.#read(digest, request) : undefined;
    }
    try {
      await this.#proofs.authorize(target, digest, signal);
      const found = await this.#read(digest, request);
      return found ?? (await this.make(target, digest, request));
    } catch (error) {
      // The image that it was derived for may be gone; another one of the repository may lead to it.
      const made =
        isSpandrelError(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN') &&
        (await this.make(target, digest, request));
      if (!made) throw error;
      return made;
    }
  }

  /**
   * As {@link get}, for a blob that neither this replica nor the upstream has: another replica may have named
   * it.
   */
  async make(target: Target, digest: Digest, request: DerivedBlobRequest): Promise<DerivedBlob | undefined> {
    const { signal } = request;
    const artifacts = await this.#prefetchAnswers.findArtifact(digest);
    const artifact = await this.#openArtifact(target, artifacts, signal);
    if (artifact !== undefined) return artifact;
    // A blob from an upstream is not derived.
    if (this.#blobs.stat(digest, target.client.name) !== undefined) return undefined;
    const isMade = await this.#lost.makeZtoc(target, digest, signal);
    return isMade ? this.#read(digest, request) : undefined;
  }

  /** An artifact that may be about several layers: the repository must have one of them. */
  async #openArtifact(
    target: Target,
    artifacts: readonly RecordedPrefetch[],
    signal: AbortSignal,
  ): Promise<DerivedBlob | undefined> {
    const originals = new Map(artifacts.map(({ original, bytes }) => [original, bytes]));
    for (const [original, bytes] of originals) {
      const derivation = { image: original, manifests: [], layers: [original] };
      if (await this.#proofs.hasAll(target, derivation, signal)) return plainBlob(bytes);
    }
    return undefined;
  }

  async #storeOf(digest: Digest): Promise<ZtocStore | undefined> {
    for (const ztocs of this.#ztocs) if (await ztocs.has(digest)) return ztocs;
    return undefined;
  }

  async #read(
    digest: Digest,
    { acceptsGzip, fairnessKey, signal }: DerivedBlobRequest,
  ): Promise<DerivedBlob | undefined> {
    const ztocs = await this.#storeOf(digest);
    const sizes = await ztocs?.sizes(digest);
    if (ztocs === undefined || sizes === undefined) return undefined;
    // The stored form is also decompressed, to be verified.
    const release = await this.#memory.enter(signal, fairnessKey, sizes.storedBytes + sizes.plainBytes);
    let bytes: Buffer | undefined;
    try {
      bytes = await (acceptsGzip ? ztocs.readCompressed(digest) : ztocs.read(digest));
    } finally {
      if (bytes === undefined) release();
    }
    return bytes && { bytes, encoding: acceptsGzip ? 'gzip' : undefined, release };
  }
}

function plainBlob(bytes: Uint8Array): DerivedBlob {
  return { bytes, encoding: undefined, release: () => undefined };
}
