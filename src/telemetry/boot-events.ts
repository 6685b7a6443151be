import type { Metrics } from './metrics.ts';
import type { BootLayerOutcome } from './outcomes/boot-layer-outcome.ts';
import type { PrefetchOutcome } from './outcomes/prefetch-outcome.ts';

/** What is made of boot profiles: boot layers and prefetch artifacts. A part of `Events`. */
export class BootEvents {
  readonly #metrics: Metrics;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  layerMade(outcome: BootLayerOutcome): void {
    this.#metrics.bootLayers.inc({ outcome });
  }

  layerServed(): void {
    this.#metrics.bootLayersServed.inc();
  }

  layerSent(bytes: number): void {
    this.#metrics.bootLayerBytes.inc(bytes);
  }

  /** @param bytes of the spans that the artifacts of an image list */
  prefetchPlanned(outcome: PrefetchOutcome, bytes = 0): void {
    this.#metrics.prefetchPlans.inc({ outcome });
    this.#metrics.prefetchBytes.inc(bytes);
  }
}
