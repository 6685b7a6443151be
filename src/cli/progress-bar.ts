const WIDTH = 30;
const REDRAW_MS = 100;

/** A bar on standard error while it is a terminal; nothing otherwise. */
export class ProgressBar implements Disposable {
  readonly #label: string;
  readonly #total: number;
  readonly #isShown: boolean;
  readonly #started = performance.now();
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(label: string, total: number) {
    this.#label = label;
    this.#total = total;
    this.#isShown = process.stderr.isTTY && total > 0;
  }

  /** Bytes done so far. */
  update(done: number): void {
    const now = performance.now();
    if (!this.#isShown || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const share = Math.min(1, done / this.#total);
    const filled = Math.round(share * WIDTH);
    const rate = done / 1e6 / Math.max(0.001, (now - this.#started) / 1000);
    process.stderr.write(
      `\r${this.#label} [${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ${Math.floor(share * 100)} % ${rate.toFixed(0)} MB/s `,
    );
  }

  [Symbol.dispose](): void {
    if (this.#isShown) process.stderr.write('\r\u001b[K');
  }
}
