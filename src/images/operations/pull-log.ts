import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { KnownLayers } from '../documents/known-layers.ts';
import type { Target } from '../documents/target.ts';

/** How the clients of an image have pulled it: by spans, or whole. */
export interface PullCounts {
  readonly lazy: number;
  readonly full: number;
}

/** What of a request for a layer tells how it is pulled. */
export interface LayerRequest {
  readonly client: string;
  readonly range: string | undefined;
  readonly userAgent: string;
  readonly acceptEncoding: string;
}

const MAX_IMAGES = 10_000;
const MAX_PULLS = 100_000;
const NO_PULLS: PullCounts = { lazy: 0, full: 0 };
const SEEN = {};

/** Counts lazy and full pulls by the requests for layers that can be lazy, each client once for an image and a way. */
export class PullLog {
  readonly #knownLayers: KnownLayers;
  readonly #metrics: Metrics;
  readonly #counts = new BoundedMap<PullCounts>({ maxEntries: MAX_IMAGES });
  readonly #seen = new BoundedMap<object>({ maxEntries: MAX_PULLS });

  constructor(knownLayers: KnownLayers, metrics: Metrics) {
    this.#knownLayers = knownLayers;
    this.#metrics = metrics;
  }

  note(target: Target, layer: Digest, request: LayerRequest): void {
    // The config is the same before and after an image has been given an index.
    const image = this.#knownLayers.get(target, layer)?.config?.digest;
    const way = wayOf(request);
    if (image === undefined || way === undefined) return;
    const key = `${request.client} ${way} ${image}`;
    if (this.#seen.get(key) !== undefined) return;
    this.#seen.set(key, SEEN);
    const counts = this.counts(image);
    this.#counts.set(image, { ...counts, [way]: counts[way] + 1 });
    this.#metrics.imagePulls.inc({ mode: way });
  }

  /** @param config digest of the image's config */
  counts(config: Digest): PullCounts {
    return this.#counts.get(config) ?? NO_PULLS;
  }
}

/**
 * The snapshotter asks for spans with `Accept-Encoding: identity`, which its parallel mode does not (soci-snapshotter
 * `fs/remote/blob.go`); probes of two bytes tell nothing.
 */
function wayOf({ range, userAgent, acceptEncoding }: LayerRequest): keyof PullCounts | undefined {
  if (range === undefined) return 'full';
  if (range === 'bytes=0-1' || !userAgent.startsWith('soci-snapshotter/')) return undefined;
  const isIdentity = acceptEncoding.split(',').every((coding) => coding.trim() === 'identity');
  return isIdentity ? 'lazy' : 'full';
}
