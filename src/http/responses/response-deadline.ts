import type { ServerResponse } from 'node:http';

import { HEAD_ALONE_MS, isSnapshotter, SNAPSHOTTER_HEAD_MS } from '../../core/client-quirks.ts';
import { SpandrelError } from '../../core/errors.ts';

/**
 * How long a response may take to begin. For a client that would give up, it aborts the work with
 * ANSWER_PENDING, so that the client gets a 503 in time and asks again.
 */
export class ResponseDeadline implements Disposable {
  /** Aborted when the client aborts, or would soon. */
  readonly signal: AbortSignal;
  /**
   * When to send the head without the first byte of the body; `undefined` if {@link signal} ends the wait.
   */
  readonly headAloneMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(raw: ServerResponse, userAgent: string | undefined, clientAborted: AbortSignal) {
    if (!isSnapshotter(userAgent)) {
      this.signal = clientAborted;
      this.headAloneMs = HEAD_ALONE_MS;
      return;
    }
    const late = new AbortController();
    this.#timer = setTimeout(() => {
      if (!raw.headersSent) late.abort(new SpandrelError('ANSWER_PENDING', 'the answer is not there yet'));
    }, SNAPSHOTTER_HEAD_MS);
    this.signal = AbortSignal.any([clientAborted, late.signal]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
