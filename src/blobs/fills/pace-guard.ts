import { SpandrelError } from '../../core/errors.ts';

/** Less than this in the whole time is no progress. */
const MIN_BYTES = 64 * 1024;

/**
 * Ends a request whose body drips: in every `timeoutMs` that are spent waiting for the upstream, it has to bring 64 KiB or its end.
 * Pauses between two bytes are the transport's to bound.
 */
export class PaceGuard {
  /** For the request: ends with the signal that the guard was given, and when the body is too slow. */
  readonly signal: AbortSignal;
  readonly #request: AbortController;
  readonly #timeoutMs: number;
  readonly #parent: AbortSignal;
  readonly #onAbort: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isWaiting = false;
  #wasWaiting = true;
  /** Since the timer has last been looked at. */
  #receivedBytes = 0;

  /** @param request that of a request under way; without one the guard makes its own */
  constructor(timeoutMs: number, parent: AbortSignal, request = new AbortController()) {
    this.#timeoutMs = timeoutMs;
    this.#parent = parent;
    this.#request = request;
    this.signal = request.signal;
    this.#onAbort = () => request.abort(parent.reason);
    if (parent.aborted) this.#onAbort();
    parent.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** The same body. @throws what the body throws, which is UPSTREAM_TIMEOUT where it follows {@link signal} */
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

  /** Ends the request: nobody reads the rest of its body. */
  cancel(): void {
    this.#request.abort(new Error('the body is not read any more'));
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
