/** Until something has been measured. */
const USUAL_BYTES_PER_SECOND = 40 * 2 ** 20;
/** Share of the newest measurement. */
const WEIGHT = 0.3;

/** Tells how long fills and builds of layers will take, from how long they took. */
export class BuildForecast {
  readonly #threads: number;
  #bytesPerSecond = USUAL_BYTES_PER_SECOND;

  /** @param threads layers that are built at the same time */
  constructor(threads: number) {
    this.#threads = threads;
  }

  /** A layer of so many compressed bytes took so long from the first request to its index. Small ones tell nothing. */
  record(layerBytes: number, tookMs: number): void {
    if (layerBytes < 2 ** 20 || tookMs <= 0) return;
    const measured = (layerBytes / tookMs) * 1000;
    this.#bytesPerSecond += WEIGHT * (measured - this.#bytesPerSecond);
  }

  /** Time until all layers of these sizes, in compressed bytes, are indexed. */
  estimateMs(layerBytes: readonly number[]): number {
    const total = layerBytes.reduce((sum, bytes) => sum + bytes, 0);
    const largest = Math.max(0, ...layerBytes);
    return (Math.max(largest, total / this.#threads) / this.#bytesPerSecond) * 1000;
  }
}
