import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import type { Reference } from '../core/image-name.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { isUpstreamAway } from '../upstream/fault-kinds.ts';
import type { BlobAccess } from './blob-access.ts';
import type { LazyImages } from './lazy-images.ts';
import type { StoredManifest } from './manifest.ts';
import type { FoundManifest, Manifests } from './manifests.ts';
import type { SociIndexer } from './soci-indexer.ts';
import { type Target, targetKey } from './target.ts';

export interface LostDocumentsDeps {
  readonly access: BlobAccess;
  readonly manifests: Manifests;
  readonly indexer: SociIndexer;
  readonly lazyImages: LazyImages;
  readonly metrics: Metrics;
}

/**
 * Makes again what the proxy has made of an image and named to somebody, where the store has lost it or found it damaged: no upstream
 * has it, but it comes out the same from the same image.
 */
export class LostDocuments {
  readonly #deps: LostDocumentsDeps;
  readonly #flights: SingleFlight<void>;

  constructor(deps: LostDocumentsDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('index', deps.metrics);
  }

  /** As {@link Manifests.get}, for those that the proxy has made too. */
  async manifest(target: Target, reference: Reference, signal: AbortSignal): Promise<FoundManifest> {
    const { manifests } = this.#deps;
    try {
      return await manifests.get(target, reference, signal);
    } catch (error) {
      const mayBeOurs = isSpandrelError(error, 'MANIFEST_UNKNOWN') || isUpstreamAway(error);
      if (!mayBeOurs || 'tag' in reference || !(await this.restore(target, reference.digest, signal)))
        throw error;
      return manifests.refresh(target, reference, signal);
    }
  }

  /**
   * Make all again that came from the same image.
   * @returns false if the proxy has not given the repository a document of this digest
   * @throws SpandrelError as fills and builds do
   */
  async restore(target: Target, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const origin = this.#deps.access.originOf(target, digest);
    if (origin === undefined) return false;
    const { manifest } = await this.#deps.manifests.get(target, { digest: origin }, signal);
    const key = `${targetKey(target)} ${origin}`;
    await this.#flights.run(key, () => this.#restoreAll(target, manifest), signal);
    return true;
  }

  async #restoreAll(target: Target, manifest: StoredManifest): Promise<void> {
    const { indexer, lazyImages } = this.#deps;
    const images = await lazyImages.planned(target, manifest);
    await Promise.all(images.map((image) => indexer.restore(target, image.manifest)));
    await lazyImages.restore(target, manifest);
  }
}
