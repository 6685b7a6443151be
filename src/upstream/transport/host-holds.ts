import { BoundedMap } from '../../cache/bounded-map.ts';
import type { SpandrelError } from '../../core/errors.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { Events } from '../../telemetry/events.ts';
import { leftAlone } from './left-alone.ts';
import type { Pause } from './backoff-ms.ts';

export interface HostHoldsDeps {
  readonly upstream: string;
  readonly pause: Pause;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

/** A request that a `Retry-After` may delay. */
export interface HeldRequest {
  readonly url: URL;
  /** The client whose own credentials the request has; `undefined` for those of the proxy. */
  readonly party?: string | undefined;
  readonly signal: AbortSignal | undefined;
}

interface Hold {
  readonly untilMs: number;
  /** Resolves when the hold ends; `undefined` if that is too late to wait for. */
  readonly over: Promise<void> | undefined;
}

const MAX_HOLDS = 1024;
/** Longest hold. A host that asks for longer gets one request in this time. */
const LONGEST_HOLD_MS = 3_600_000;
/** A request that would wait longer fails at once: clients do not wait that long. */
const LONGEST_WAIT_MS = 30_000;

/**
 * Remembers which hosts sent `Retry-After`, and until when they want no requests. What a host sends to the
 * proxy applies to all requests; what it sends to a client's own credentials applies to that client.
 */
export class HostHolds {
  readonly #deps: HostHoldsDeps;
  readonly #now: () => number;
  readonly #holds = new BoundedMap<Hold>({ maxEntries: MAX_HOLDS });
  readonly #closing = new AbortController();

  constructor(deps: HostHoldsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
  }

  /**
   * Records that the host wants no request for `wantedMs`. Returns how long it gets none, at most an hour.
   */
  hold({ url, party }: HeldRequest, wantedMs: number): { readonly holdMs: number; readonly isLong: boolean } {
    const holdMs = Math.min(wantedMs, LONGEST_HOLD_MS);
    const isLong = holdMs > LONGEST_WAIT_MS;
    const key = keyOf(url, party);
    const untilMs = this.#now() + holdMs;
    if (holdMs > 0 && untilMs > (this.#current(key)?.untilMs ?? 0)) {
      const over = isLong ? undefined : this.#deps.pause(holdMs, this.#closing.signal);
      const hold = { untilMs, over };
      this.#holds.set(key, hold);
      const end = (): void => {
        if (this.#holds.get(key) === hold) this.#holds.delete(key);
      };
      over?.then(end, end);
    }
    return { holdMs, isLong };
  }

  /**
   * Resolves when a request may be sent, at once if its host is not held. Returns how many times it waited
   * for the host, at most `waits`.
   * @throws SpandrelError UPSTREAM_THROTTLED if the wait would be too long, SHUTTING_DOWN; the reason of the
   * signal
   */
  async admit(request: HeldRequest, waits: number): Promise<number> {
    for (let waited = 0; ; waited++) {
      const hold = this.#holdOf(request);
      if (hold === undefined) return waited;
      if (hold.over === undefined || waited >= waits) throw this.#refusal(request.url.host, hold);
      const { upstream, events } = this.#deps;
      const { host } = request.url;
      using _waits = events.limits.requestWaits({
        upstream,
        reason: 'retry_after',
        words: `requests wait for ${host}, which wants none for a while (Retry-After)`,
        expectedMs: hold.untilMs - this.#now(),
      });
      await waitFor(hold.over, request.signal);
    }
  }

  /** Rejects all waiting requests. */
  close(reason: Error): void {
    this.#closing.abort(reason);
  }

  /** The later hold of those for the proxy and for the client. */
  #holdOf({ url, party }: HeldRequest): Hold | undefined {
    const own = this.#current(keyOf(url, undefined));
    const other = party === undefined ? undefined : this.#current(keyOf(url, party));
    return (other?.untilMs ?? 0) > (own?.untilMs ?? 0) ? other : own;
  }

  #current(key: string): Hold | undefined {
    const hold = this.#holds.get(key);
    return hold !== undefined && hold.untilMs > this.#now() ? hold : undefined;
  }

  #refusal(host: string, { untilMs }: Hold): SpandrelError {
    const { upstream } = this.#deps;
    const why = 'it wants no requests until then (Retry-After)';
    return leftAlone('UPSTREAM_THROTTLED', { upstream, host, remainingMs: untilMs - this.#now(), why });
  }
}

function keyOf(url: URL, party: string | undefined): string {
  return party === undefined ? url.origin : `${url.origin} ${party}`;
}
