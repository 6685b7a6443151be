import { Secret } from '../../core/secret.ts';

/** What proves the proxy to a registry or its token service. */
export type Credentials =
  /** `authorization` is a header value, for the registry itself or for its token service. */
  | { readonly kind: 'basic'; readonly authorization: Secret }
  /** An OAuth 2 refresh token: only a token service takes it. */
  | { readonly kind: 'identity-token'; readonly token: Secret }
  /** A token for the registry itself, got elsewhere. */
  | { readonly kind: 'bearer'; readonly authorization: Secret };

/** Where the credentials of one upstream come from. */
export interface CredentialSource {
  /**
   * The credentials of now, from memory where possible; `undefined` is anonymous. Credentials that have not changed are the same object.
   * @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED if there should be some, UPSTREAM_* if a service that hands them out is away
   */
  read(signal: AbortSignal | undefined): Promise<Credentials | undefined>;
  /** These have been turned down: the next {@link read} looks whether there are others. */
  refuse(refused: Credentials): void;
  /** Ends what is under way. */
  close(reason: Error): void;
}

/** Basic `Authorization`: RFC 7617. */
export function basicCredentials(username: string, password: string): Credentials {
  const pair = Buffer.from(`${username}:${password}`).toString('base64');
  return { kind: 'basic', authorization: new Secret(`Basic ${pair}`) };
}

/** Credentials that never change; anonymous without any. */
export class FixedCredentials implements CredentialSource {
  readonly #credentials: Credentials | undefined;

  constructor(credentials: Credentials | undefined) {
    this.#credentials = credentials;
  }

  read(): Promise<Credentials | undefined> {
    return Promise.resolve(this.#credentials);
  }

  refuse(): void {
    // There are no others.
  }

  close(): void {
    // Nothing is ever under way.
  }
}
