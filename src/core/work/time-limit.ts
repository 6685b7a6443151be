/**
 * A signal that aborts after `ms` with a TimeoutError. Dispose of it when the limited work ends: unlike
 * `AbortSignal.timeout`, it then leaves no timer behind. The timer does not keep the process alive.
 */
export class TimeLimit implements Disposable {
  readonly signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number) {
    const controller = new AbortController();
    this.signal = controller.signal;
    const expire = (): void => controller.abort(new DOMException(`not within ${ms} ms`, 'TimeoutError'));
    this.#timer = setTimeout(expire, ms).unref();
  }

  get isOver(): boolean {
    return this.signal.aborted;
  }

  /** A signal that aborts with `signal`, or when the time is over. */
  with(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.signal : AbortSignal.any([signal, this.signal]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
