const WIDTH = 30;
const REDRAW_MS = 100;

/** A progress bar on standard error if that is a terminal; otherwise prints nothing. */
export class ProgressBar implements Disposable {
  readonly #label: string;
  readonly #isShown = process.stderr.isTTY;
  readonly #started = performance.now();
  #totalBytes: number;
  #doneBytes = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(label: string, totalBytes: number) {
    this.#label = label;
    this.#totalBytes = totalBytes;
  }

  /** Increases the total. */
  addTotal(bytes: number): void {
    this.#totalBytes += bytes;
  }

  /** Adds to the bytes done. */
  add(bytes: number): void {
    this.update(this.#doneBytes + bytes);
  }

  /** Sets the bytes done. */
  update(doneBytes: number): void {
    this.#doneBytes = doneBytes;
    const now = performance.now();
    if (!this.#isShown || this.#totalBytes === 0 || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const share = Math.min(1, doneBytes / this.#totalBytes);
    const filled = Math.round(share * WIDTH);
    const rate = doneBytes / 1e6 / Math.max(0.001, (now - this.#started) / 1000);
    process.stderr.write(
      `\r${this.#label} [${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ` +
        `${Math.floor(share * 100)} % ${rate.toFixed(0)} MB/s `,
    );
  }

  [Symbol.dispose](): void {
    if (this.#isShown) process.stderr.write('\r\u001b[K');
  }
}
