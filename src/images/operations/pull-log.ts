import { BoundedMap } from '../../cache/bounded-map.ts';
import { type LayerRequest, pullMode } from '../../core/client-quirks.ts';
import type { Digest } from '../../core/digest.ts';
import type { Events } from '../../telemetry/events.ts';
import type { KnownLayers } from '../documents/known-layers.ts';
import type { Target } from '../../upstream/target.ts';

/** How many clients have pulled an image lazily, span by span, and how many in full. */
export interface PullCounts {
  readonly lazy: number;
  readonly full: number;
}

const MAX_IMAGES = 10_000;
const MAX_PULLS = 100_000;
const NO_PULLS: PullCounts = { lazy: 0, full: 0 };
const SEEN = {};

/** Counts pulls of images by requests for their indexed layers: each client once per image and mode. */
export class PullLog {
  readonly #knownLayers: KnownLayers;
  readonly #events: Events;
  readonly #counts = new BoundedMap<PullCounts>({ maxEntries: MAX_IMAGES });
  readonly #seen = new BoundedMap<object>({ maxEntries: MAX_PULLS });

  constructor(knownLayers: KnownLayers, events: Events) {
    this.#knownLayers = knownLayers;
    this.#events = events;
  }

  /** @param client address of the client */
  note(target: Target, layer: Digest, client: string, request: LayerRequest): void {
    // Keyed by config digest, which is the same with and without a SOCI index.
    const image = this.#knownLayers.get(target, layer)?.config?.digest;
    const mode = pullMode(request);
    if (image === undefined || mode === undefined) return;
    const key = `${client} ${mode} ${image}`;
    if (this.#seen.get(key) !== undefined) return;
    this.#seen.set(key, SEEN);
    const counts = this.counts(image);
    this.#counts.set(image, { ...counts, [mode]: counts[mode] + 1 });
    this.#events.imagePulled(mode);
  }

  /** @param config digest of the image's config */
  counts(config: Digest): PullCounts {
    return this.#counts.get(config) ?? NO_PULLS;
  }
}
