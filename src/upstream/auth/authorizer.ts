import type { Secret } from '../../core/secret.ts';
import type { Challenge } from './challenge.ts';

/** What proves somebody to an upstream. */
export interface Authorizer {
  /** As {@link HeldRequest.party}. */
  readonly party?: string | undefined;
  /** What may be the reason when the upstream refuses nevertheless. */
  readonly hint?: string | undefined;
  /** The `Authorization` value for a request of `scope`, or `undefined` to ask without one. */
  authorization(scope: string, signal: AbortSignal | undefined): Promise<Secret | undefined>;
  /**
   * The value that answers the challenges of a 401; `refused` is the one that was sent. `undefined` if there is nothing to answer with;
   * `ask-anew` if the challenge is not to be believed: what a request without any value is challenged with is the one to answer.
   * @throws SpandrelError UPSTREAM_* codes if a token service fails
   */
  answer(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | 'ask-anew' | undefined>;
}
