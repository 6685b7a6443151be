import type { Secret } from '../../core/secret.ts';
import type { Challenge } from './challenge.ts';

/** Authenticates requests to an upstream, for the proxy or for a client. */
export interface Authorizer {
  /** As {@link HeldRequest.party}. */
  readonly party?: string | undefined;
  /** A possible reason for a refusal by the upstream. */
  readonly hint?: string | undefined;
  /** The upstream itself sent `status` in the end. */
  noteStatus?(status: number): void;
  /** The `Authorization` value for a request of `scope`; `undefined` to send none. */
  authorization(scope: string, signal: AbortSignal | undefined): Promise<Secret | undefined>;
  /**
   * The value that answers the challenges of a 401; `refused` is the value that was sent. `undefined` if
   * there is nothing else to send. `retry-without` if the challenge is not trusted: send the request without
   * a value, and answer the challenge to that.
   * @throws SpandrelError UPSTREAM_* codes if a token service fails
   */
  answer(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | 'retry-without' | undefined>;
}
