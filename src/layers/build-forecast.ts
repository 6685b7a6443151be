/** Used until there is a measurement. */
const USUAL_BYTES_PER_SECOND = 40 * 2 ** 20;
/** Weight of the newest measurement. */
const WEIGHT = 0.3;

/** Estimates how long fills and builds of layers take, from earlier ones. */
export class BuildForecast {
  readonly #threads: number;
  #bytesPerSecond = USUAL_BYTES_PER_SECOND;

  /** @param threads layers that are built at the same time */
  constructor(threads: number) {
    this.#threads = threads;
  }

  /**
   * Records the time from the first request for a layer to its index, with the layer's compressed size. Small
   * layers are ignored.
   */
  record(layerBytes: number, tookMs: number): void {
    if (layerBytes < 2 ** 20 || tookMs <= 0) return;
    const measured = (layerBytes / tookMs) * 1000;
    this.#bytesPerSecond += WEIGHT * (measured - this.#bytesPerSecond);
  }

  /** Time until all layers of these compressed sizes are indexed. */
  estimateMs(layerBytes: readonly number[]): number {
    const total = layerBytes.reduce((sum, bytes) => sum + bytes, 0);
    const largest = Math.max(0, ...layerBytes);
    return (Math.max(largest, total / this.#threads) / this.#bytesPerSecond) * 1000;
  }
}
