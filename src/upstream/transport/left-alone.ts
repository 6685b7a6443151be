import { type ErrorCode, SpandrelError } from '../../core/errors.ts';

/** A host of an upstream that gets no requests for a while. */
export interface LeftAlone {
  readonly upstream: string;
  readonly host: string;
  readonly remainingMs: number;
  readonly why: string;
}

/** The error for a request to such a host: why, and until when. */
export function leftAlone(code: ErrorCode, { upstream, host, remainingMs, why }: LeftAlone): SpandrelError {
  const retryAfterSeconds = Math.max(1, Math.ceil(remainingMs / 1000));
  const until = untilOf(remainingMs);
  return new SpandrelError(
    code,
    `upstream ${upstream}: the proxy leaves ${host} alone until ${until} (${retryAfterSeconds} s): ${why}`,
    { detail: { upstream, until, retryAfterSeconds } },
  );
}

/** The time of day in `remainingMs`, to the second. */
export function untilOf(remainingMs: number): string {
  return new Date(Date.now() + Math.max(0, remainingMs)).toISOString().replace(/\.\d+Z$/, 'Z');
}
