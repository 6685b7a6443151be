import { Secret } from '../../core/secret.ts';

/** Credentials for a registry or its token service. */
export type Credentials =
  /** `authorization` is a header value, for the registry itself or for its token service. */
  | { readonly kind: 'basic'; readonly authorization: Secret; readonly user?: string }
  /** An OAuth 2 refresh token, for a token service only. */
  | { readonly kind: 'identity-token'; readonly token: Secret }
  /** A token for the registry itself. */
  | { readonly kind: 'bearer'; readonly authorization: Secret };

/** Where the credentials of one upstream come from. */
export interface CredentialSource {
  /** User name or role, for the log; `undefined` if it is not known, or there is none. */
  readonly user: string | undefined;
  /**
   * The current credentials, from memory if possible; `undefined` means anonymous. Unchanged credentials are
   * the same object.
   * @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED if configured credentials cannot be read, UPSTREAM_*
   * if a service that issues them fails
   */
  read(signal: AbortSignal | undefined): Promise<Credentials | undefined>;
  /** These were refused: the next {@link read} looks for newer ones. */
  refuse(refused: Credentials): void;
  /** Aborts running requests. */
  close(reason: Error): void;
}

/** Basic `Authorization`: RFC 7617. */
export function basicCredentials(username: string, password: string): Credentials {
  const pair = Buffer.from(`${username}:${password}`).toString('base64');
  return { kind: 'basic', authorization: new Secret(`Basic ${pair}`), user: username };
}

/** User name of Basic credentials. */
export function userOf(credentials: Credentials | undefined): string | undefined {
  return credentials?.kind === 'basic' ? credentials.user : undefined;
}

/** Credentials that never change, or none. */
export class FixedCredentials implements CredentialSource {
  readonly #credentials: Credentials | undefined;

  constructor(credentials: Credentials | undefined) {
    this.#credentials = credentials;
  }

  get user(): string | undefined {
    return userOf(this.#credentials);
  }

  read(): Promise<Credentials | undefined> {
    return Promise.resolve(this.#credentials);
  }

  refuse(): void {
    // There are no others.
  }

  close(): void {
    // There is nothing to abort.
  }
}
