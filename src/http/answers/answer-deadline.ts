import type { ServerResponse } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';

/**
 * The snapshotter gives up on an answer whose head takes 3 s, and counts that as a broken connection; a 503 it repeats after the time
 * that it is told (soci-snapshotter `config/defaults.go`, `service/resolver/client.go`). Others wait as long as it takes.
 */
const IMPATIENT = /^soci-snapshotter\//;
const HEAD_DEADLINE_MS = 2_600;

/**
 * A head that is there after so long without a byte of the body is sent alone: it keeps clients, and balancers before us, from giving
 * up. A 503 would not do: containerd takes a second one for final and leaves a mirror at the first (`core/remotes/docker/resolver.go`),
 * crane waits 1 and 3 s whatever Retry-After says (`pkg/v1/remote/options.go`), skopeo repeats 429 only.
 */
const HEAD_ALONE_MS = 2_500;

/** Aborts what a request waits for, with ANSWER_PENDING, if its client would leave before the head of the answer. */
export class AnswerDeadline implements Disposable {
  /** Aborted when the client has gone, or would now. */
  readonly signal: AbortSignal;
  /** How long the first byte of a body may be waited for; `undefined` where {@link signal} says it. */
  readonly headAloneMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(response: ServerResponse, userAgent: string | undefined, gone: AbortSignal) {
    if (!IMPATIENT.test(userAgent ?? '')) {
      this.signal = gone;
      this.headAloneMs = HEAD_ALONE_MS;
      return;
    }
    const late = new AbortController();
    this.#timer = setTimeout(() => {
      if (!response.headersSent)
        late.abort(new SpandrelError('ANSWER_PENDING', 'the answer is not there yet'));
    }, HEAD_DEADLINE_MS);
    this.signal = AbortSignal.any([gone, late.signal]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
