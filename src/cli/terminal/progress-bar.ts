const WIDTH = 30;
const REDRAW_MS = 100;

/** A progress bar on standard error if that is a terminal; otherwise prints nothing. */
export class ProgressBar implements Disposable {
  readonly #label: string;
  readonly #isShown = process.stderr.isTTY;
  readonly #started = performance.now();
  #totalBytes: number | undefined;
  #doneBytes = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;

  /** @param totalBytes `undefined` as long as it is not known */
  constructor(label: string, totalBytes?: number) {
    this.#label = label;
    this.#totalBytes = totalBytes;
  }

  setTotal(totalBytes: number | undefined): void {
    this.#totalBytes = totalBytes;
  }

  /** Increases the total. */
  addTotal(bytes: number): void {
    this.#totalBytes = (this.#totalBytes ?? 0) + bytes;
  }

  /** Adds to the bytes done. */
  add(bytes: number): void {
    this.update(this.#doneBytes + bytes);
  }

  /** Sets the bytes done. */
  update(doneBytes: number): void {
    this.#doneBytes = doneBytes;
    const now = performance.now();
    if (!this.#isShown || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const progress = { doneBytes, totalBytes: this.#totalBytes, elapsedMs: now - this.#started };
    process.stderr.write(`\r${describeProgress(this.#label, progress)} `);
  }

  [Symbol.dispose](): void {
    if (this.#isShown) process.stderr.write('\r\u001b[K');
  }
}

/** The line of a bar; without a total only what is done. */
export function describeProgress(
  label: string,
  {
    doneBytes,
    totalBytes,
    elapsedMs,
  }: { readonly doneBytes: number; readonly totalBytes: number | undefined; readonly elapsedMs: number },
): string {
  if (totalBytes === undefined || totalBytes === 0)
    return doneBytes === 0 ? `${label} ...` : `${label} ${(doneBytes / 1e6).toFixed(1)} MB`;
  const share = Math.min(1, doneBytes / totalBytes);
  const filled = Math.round(share * WIDTH);
  const rate = doneBytes / 1e6 / Math.max(0.001, elapsedMs / 1000);
  return (
    `${label} [${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ` +
    `${Math.floor(share * 100)} % ${rate.toFixed(0)} MB/s`
  );
}
