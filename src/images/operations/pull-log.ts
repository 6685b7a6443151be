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
/** A client that has requested no layer of an image for so long pulls it anew. */
const WINDOW_MS = 10 * 60_000;

/**
 * Counts pulls of images by the requests for their layers. A client counts once for an image and a mode,
 * until it has requested nothing of it for ten minutes.
 */
export class PullLog {
  readonly #knownLayers: KnownLayers;
  readonly #events: Events;
  readonly #counts = new BoundedMap<PullCounts>({ maxEntries: MAX_IMAGES });
  /** When a client has last requested a layer of an image, in milliseconds of `#now`. */
  readonly #seen = new BoundedMap<{ readonly atMs: number }>({ maxEntries: MAX_PULLS });
  readonly #now: () => number;

  /** @param now milliseconds of a clock that only goes forward */
  constructor(knownLayers: KnownLayers, events: Events, now = (): number => performance.now()) {
    this.#now = now;
    this.#knownLayers = knownLayers;
    this.#events = events;
  }

  /** @param client its address, as well as it is known */
  note(target: Target, layer: Digest, client: string, request: LayerRequest): void {
    // Keyed by config digest, which is the same with and without a SOCI index.
    const image = this.#knownLayers.get(target, layer)?.config?.digest;
    const mode = pullMode(request);
    if (image === undefined || mode === undefined) return;
    const key = `${client} ${mode} ${image}`;
    const atMs = this.#now();
    const last = this.#seen.get(key);
    this.#seen.set(key, { atMs });
    if (last !== undefined && atMs - last.atMs < WINDOW_MS) return;
    const counts = this.counts(image);
    this.#counts.set(image, { ...counts, [mode]: counts[mode] + 1 });
    this.#events.imagePulled(mode);
  }

  /** @param config digest of the image's config */
  counts(config: Digest): PullCounts {
    return this.#counts.get(config) ?? NO_PULLS;
  }
}
