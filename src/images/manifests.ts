import type { DigestFiles } from '../blobs/digest-files.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import { type Digest, digestOf, isDigest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { formatReference, type Reference } from '../core/image-name.ts';
import { MANIFEST_MEDIA_TYPES } from '../core/media-types.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { ByteSource, Metrics } from '../telemetry/metrics.ts';
import type { KnownLayers } from './known-layers.ts';
import { parseManifest, type StoredManifest } from './manifest.ts';
import type { ManifestStore } from './manifest-store.ts';
import { type Target, targetKey } from './target.ts';

export interface ManifestsDeps {
  readonly store: ManifestStore;
  /** What each tag pointed to last; used only while its upstream cannot be asked. */
  readonly tags: DigestFiles;
  readonly knownLayers: KnownLayers;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export interface FoundManifest {
  readonly manifest: StoredManifest;
  readonly source: ByteSource;
}

/** Manifests of the upstreams: immutable by digest and kept; by tag asked for each time, and served as last seen while the upstream is away. */
export class Manifests {
  readonly #deps: ManifestsDeps;
  readonly #flights: SingleFlight<FoundManifest>;

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('manifest', deps.metrics);
  }

  /** @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED, an UPSTREAM_* code */
  get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = `${targetKey(target)} ${formatReference(reference)}`;
    return this.#flights.run(
      key,
      () => ('tag' in reference ? this.#byTag(target, reference) : this.#byDigest(target, reference.digest)),
      signal,
    );
  }

  async #byDigest(target: Target, digest: Digest): Promise<FoundManifest> {
    const stored = await this.#deps.store.get(digest);
    if (stored === undefined) return { manifest: await this.#fetch(target, { digest }), source: 'upstream' };
    this.#learnLayers(stored);
    return { manifest: stored, source: 'disk' };
  }

  async #byTag(target: Target, reference: { tag: string }): Promise<FoundManifest> {
    const tagKey = digestOf(`${targetKey(target)}:${reference.tag}`);
    try {
      const manifest = await this.#fetch(target, reference);
      await this.#deps.tags.write(tagKey, Buffer.from(manifest.digest));
      return { manifest, source: 'upstream' };
    } catch (error) {
      if (!isSpandrelError(error, 'UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT', 'UPSTREAM_THROTTLED'))
        throw error;
      const stale = await this.#lastSeen(tagKey);
      if (stale === undefined) throw error;
      this.#deps.logger.warn(
        { upstream: target.client.name, code: error.code },
        'upstream away: serving the tag as last seen',
      );
      this.#learnLayers(stale);
      return { manifest: stale, source: 'disk' };
    }
  }

  async #lastSeen(tagKey: Digest): Promise<StoredManifest | undefined> {
    const digest = (await this.#deps.tags.read(tagKey))?.toString('latin1');
    return digest !== undefined && isDigest(digest) ? this.#deps.store.get(digest) : undefined;
  }

  async #fetch(target: Target, reference: Reference): Promise<StoredManifest> {
    const fetched = await target.client.fetchManifest(target.repository, reference, {
      accept: [...MANIFEST_MEDIA_TYPES, '*/*'],
    });
    const manifest = { ...fetched, bytes: Buffer.from(fetched.bytes) };
    await this.#deps.store.put(manifest);
    this.#learnLayers(manifest);
    return manifest;
  }

  #learnLayers(manifest: StoredManifest): void {
    try {
      const parsed = parseManifest(manifest);
      if (parsed.kind === 'image') this.#deps.knownLayers.learn(manifest.digest, parsed);
    } catch (error) {
      // An artifact that is no image is served like any other; there is nothing to learn from it.
      if (!isSpandrelError(error, 'IMAGE_UNSUPPORTED')) throw error;
    }
  }
}
