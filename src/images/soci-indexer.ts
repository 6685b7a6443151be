import { BoundedMap } from '../cache/bounded-map.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { Descriptor } from '../core/descriptor.ts';
import { isSpandrelError } from '../core/errors.ts';
import { encodeSociIndex, type SociLayer } from '../soci/soci-index.ts';
import { skipReason } from '../soci/layer-selection.ts';
import type { LayerIndexes } from '../spans/layer-indexes.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Layers } from './layers.ts';
import { parseManifest, type StoredManifest } from './manifest.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { Target } from './target.ts';

export interface SociIndexerDeps {
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly store: ManifestStore;
  readonly minLayerBytes: number;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** A wrapper, since a map entry must be an object also when there is no index. */
interface Outcome {
  readonly descriptor: Descriptor | undefined;
}

const MAX_REMEMBERED = 10_000;

/** Makes the SOCI index of an image out of the zTOCs of its layers, building those that are missing. */
export class SociIndexer {
  readonly #deps: SociIndexerDeps;
  readonly #flights: SingleFlight<Outcome>;
  readonly #remembered = new BoundedMap<Outcome>({ maxEntries: MAX_REMEMBERED });

  constructor(deps: SociIndexerDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('index', deps.metrics);
  }

  /**
   * The descriptor of an image's SOCI v1 index, stored so that it can be fetched by digest; `undefined` if the manifest is no
   * image or no layer of it can be indexed. `signal` ends the waiting, not the work.
   * @throws SpandrelError of a fill that failed for now; a layer that can never be indexed is left out instead
   */
  async sociIndexV1(
    target: Target,
    manifest: StoredManifest,
    signal?: AbortSignal,
  ): Promise<Descriptor | undefined> {
    const remembered = this.#remembered.get(manifest.digest);
    if (remembered !== undefined) return remembered.descriptor;
    const { descriptor } = await this.#flights.run(
      manifest.digest,
      () => this.#make(target, manifest),
      signal,
    );
    return descriptor;
  }

  /** The index as far as it exists: nothing is built for it. */
  async existingV1(manifest: StoredManifest): Promise<Descriptor | undefined> {
    const remembered = this.#remembered.get(manifest.digest);
    if (remembered !== undefined) return remembered.descriptor;
    const states = await Promise.all(
      this.#eligible(manifest).map(({ digest }) => this.#deps.indexes.state(digest)),
    );
    const isDone = states.length > 0 && states.every(({ kind }) => kind === 'complete' || kind === 'failed');
    return isDone ? (await this.#publish(manifest)).descriptor : undefined;
  }

  #eligible(manifest: StoredManifest): Descriptor[] {
    const parsed = parseManifest(manifest);
    if (parsed.kind !== 'image') return [];
    return parsed.layers.filter((layer) => skipReason(layer, this.#deps.minLayerBytes) === undefined);
  }

  async #make(target: Target, manifest: StoredManifest): Promise<Outcome> {
    const eligible = this.#eligible(manifest);
    // Every layer starts before any is waited for: their fills and builds overlap.
    await Promise.all(
      eligible.map(async ({ digest }) => {
        try {
          await this.#deps.indexes.ensure(this.#deps.layers.layer(target, digest));
        } catch (error) {
          // A layer at fault is left out below; a fill that failed may work the next time and ends this attempt.
          if (!isSpandrelError(error, 'LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE')) throw error;
        }
      }),
    );
    return this.#publish(manifest);
  }

  async #publish(manifest: StoredManifest): Promise<Outcome> {
    const layers: SociLayer[] = [];
    for (const layer of this.#eligible(manifest)) {
      const state = await this.#deps.indexes.state(layer.digest);
      if (state.kind === 'complete' && state.summary.ztoc !== undefined) {
        const { ztoc, spanBytes } = state.summary;
        layers.push({ layer, spanBytes, ztoc });
        continue;
      }
      const reason =
        state.kind === 'failed'
          ? state.code
          : state.kind === 'complete'
            ? state.summary.reason?.code
            : undefined;
      this.#deps.metrics.indexLayersSkipped.inc({ reason: reason ?? 'INTERNAL' });
      this.#deps.logger.warn({ layer: layer.digest, reason }, 'layer left out of the SOCI index');
    }
    const outcome = layers.length === 0 ? { descriptor: undefined } : await this.#store(manifest, layers);
    this.#remembered.set(manifest.digest, outcome);
    return outcome;
  }

  async #store(manifest: StoredManifest, layers: readonly SociLayer[]): Promise<Outcome> {
    const subject = {
      mediaType: manifest.mediaType,
      digest: manifest.digest,
      size: manifest.bytes.byteLength,
    };
    const { bytes, descriptor } = encodeSociIndex({ layers, subject });
    await this.#deps.store.put({ bytes, digest: descriptor.digest, mediaType: descriptor.mediaType });
    return { descriptor };
  }
}
