import { digestOf } from '../../core/digest.ts';
import type { Secret } from '../../core/secret.ts';
import type { Authorizer } from './authorizer.ts';
import type { Challenge } from './challenge.ts';
import { mayReceiveCredentials } from './may-receive-credentials.ts';
import { fetchToken, parseRealm, wantedScope } from './fetch-token.ts';
import type { Transport } from '../transport/transport.ts';

export interface ClientAuthorizerOptions {
  readonly upstream: string;
  /** URL of the upstream. */
  readonly base: URL;
  /** As {@link RegistryApiOptions.tokenHosts}. */
  readonly tokenHosts: readonly string[];
  readonly transport: Transport;
  /** The client's `Authorization` value; `undefined` requests public content. */
  readonly authorization: Secret | undefined;
  /**
   * Whether to answer challenges, with a token if one is required. If not, only the client's value is sent.
   */
  readonly answersChallenges: boolean;
}

/**
 * Authenticates to an upstream with the credentials of a client, never with the proxy's own. Keeps nothing.
 */
export class ClientAuthorizer implements Authorizer {
  readonly #options: ClientAuthorizerOptions;
  readonly #isBasic: boolean;
  readonly party: string;

  constructor(options: ClientAuthorizerOptions) {
    this.#options = options;
    this.party = digestOf(options.authorization?.reveal() ?? '');
    this.#isBasic = /^basic /i.test(options.authorization?.reveal() ?? '');
  }

  /**
   * Basic credentials wait for a challenge: if the upstream has a token service, only that must receive them.
   */
  async authorization(): Promise<Secret | undefined> {
    const { authorization, answersChallenges } = this.#options;
    return this.#isBasic && answersChallenges ? undefined : authorization;
  }

  async answer(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | undefined> {
    const { upstream, base, tokenHosts, transport, authorization, answersChallenges } = this.#options;
    if (!answersChallenges || refused !== undefined) return undefined;
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer === undefined) {
      const takesBasic = challenges.some(({ scheme }) => scheme === 'basic');
      return takesBasic && this.#isBasic ? authorization : undefined;
    }
    const realm = parseRealm(upstream, bearer);
    const token = await fetchToken(transport, {
      upstream,
      realm,
      service: bearer.parameters.get('service'),
      scope: wantedScope(bearer, scope),
      credentials:
        authorization !== undefined && this.#isBasic && mayReceiveCredentials(realm, base, tokenHosts)
          ? { kind: 'basic', authorization }
          : undefined,
      trusts: (place) => mayReceiveCredentials(place, base, tokenHosts),
      party: this.party,
      signal: signal ?? new AbortController().signal,
    });
    return token.authorization;
  }
}
