import { SpandrelError } from '../../core/errors.ts';

/** Fewer bytes in the whole time are no progress. */
const MIN_BYTES = 64 * 1024;

/**
 * Aborts a request whose body is too slow: in each `timeoutMs` of waiting for the upstream it must bring 64
 * KiB or its end. The transport limits the pauses between bytes.
 */
export class PaceGuard {
  /** Signal of the request: aborts with the parent signal, and when the body is too slow. */
  readonly signal: AbortSignal;
  readonly #request: AbortController;
  readonly #timeoutMs: number;
  readonly #parent: AbortSignal;
  readonly #onAbort: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isWaiting = false;
  #wasWaiting = true;
  /** Bytes received since the timer last fired. */
  #receivedBytes = 0;

  /** @param request controller of a running request; by default the guard creates one */
  constructor(timeoutMs: number, parent: AbortSignal, request = new AbortController()) {
    this.#timeoutMs = timeoutMs;
    this.#parent = parent;
    this.#request = request;
    this.signal = request.signal;
    this.#onAbort = () => request.abort(parent.reason);
    if (parent.aborted) this.#onAbort();
    parent.addEventListener('abort', this.#onAbort, { once: true });
  }

  /**
   * Yields the body. @throws the error of the body, which is UPSTREAM_TIMEOUT if it follows {@link signal}
   */
  async *watch(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    this.#timer = setInterval(() => this.#look(), this.#timeoutMs).unref();
    this.#isWaiting = true;
    for await (const bytes of body) {
      this.#receivedBytes += bytes.byteLength;
      this.#isWaiting = false;
      yield bytes;
      this.#isWaiting = true;
    }
  }

  /** Aborts the request: the rest of its body is not needed. */
  cancel(): void {
    this.#request.abort(new Error('the rest of the body is not needed'));
  }

  end(): void {
    clearInterval(this.#timer);
    this.#parent.removeEventListener('abort', this.#onAbort);
  }

  #look(): void {
    const isSlow = this.#isWaiting && this.#wasWaiting && this.#receivedBytes < MIN_BYTES;
    if (isSlow) this.#request.abort(new SpandrelError('UPSTREAM_TIMEOUT', 'the upstream sends too slowly'));
    this.#receivedBytes = 0;
    this.#wasWaiting = this.#isWaiting;
  }
}
