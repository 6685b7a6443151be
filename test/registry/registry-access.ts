import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

import { SpandrelError } from '../../src/core/errors.ts';
import type { Clock } from './clock.ts';
import { errorAnswer, jsonAnswer, type RegistryAnswer } from '../../src/demo/registry-answer.ts';
import { uploadRepositoryOf } from './registry-pushes.ts';
import { repositoryOf, type RouteRequest } from '../../src/demo/answer-request.ts';

/**
 * Who may read. `bearer` has its own token endpoint, `/token`; it wants the credentials where there are any.
 */
export type RegistryAuth =
  | { readonly kind: 'none' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly kind: 'bearer';
      readonly username?: string;
      readonly password?: string;
      readonly tokenSeconds?: number;
    };

const SERVICE = 'demo-registry';
const DEFAULT_TOKEN_SECONDS = 300;

/** Checks credentials and hands out tokens. Tokens are signed, not stored. */
export class RegistryAccess {
  readonly #auth: RegistryAuth;
  readonly #clock: Clock;
  #key = randomBytes(32);

  constructor(auth: RegistryAuth, clock: Clock) {
    this.#auth = auth;
    this.#clock = clock;
  }

  /** All tokens so far stop working. */
  revokeTokens(): void {
    this.#key = randomBytes(32);
  }

  /**
   * The refusal of a request, or the token it wants; `undefined` lets it through. `origin` is where the
   * registry is reached.
   */
  check(
    request: RouteRequest,
    authorization: string | undefined,
    origin: string,
  ): RegistryAnswer | undefined {
    const auth = this.#auth;
    if (auth.kind === 'none') return undefined;
    if (auth.kind === 'bearer') return this.#checkBearer(auth, request, authorization, origin);
    if (isBasic(authorization, auth.username, auth.password)) return undefined;
    return refusal(`Basic realm="${origin}/",service="${SERVICE}"`);
  }

  #checkBearer(
    auth: RegistryAuth & { kind: 'bearer' },
    { method, path, query }: RouteRequest,
    authorization: string | undefined,
    origin: string,
  ): RegistryAnswer | undefined {
    if (path === '/token') {
      const { username, password = '', tokenSeconds = DEFAULT_TOKEN_SECONDS } = auth;
      const isKnown = username === undefined || isBasic(authorization, username, password);
      return isKnown
        ? this.#issue(query.getAll('scope'), tokenSeconds)
        : refusal(`Basic realm="${origin}/token"`);
    }
    const repository = repositoryOf(path) ?? uploadRepositoryOf(path);
    const isWrite = !['GET', 'HEAD'].includes(method) || uploadRepositoryOf(path) !== undefined;
    const scope = repository === undefined ? '' : `repository:${repository}:pull${isWrite ? ',push' : ''}`;
    const [scheme = '', token = ''] = (authorization ?? '').split(' ');
    if (scheme.toLowerCase() === 'bearer' && this.#isGood(token, scope)) return undefined;
    const wanted = scope === '' ? '' : `,scope="${scope}"`;
    return refusal(`Bearer realm="${origin}/token",service="${SERVICE}"${wanted}`);
  }

  #issue(scopes: readonly string[], lifetimeSeconds: number): RegistryAnswer {
    const now = this.#clock.now();
    const claims = Buffer.from(
      JSON.stringify({ scopes, expiresAtMs: now + lifetimeSeconds * 1000 }),
    ).toString('base64url');
    const token = `${claims}.${this.#sign(claims)}`;
    return jsonAnswer({
      token,
      access_token: token,
      expires_in: lifetimeSeconds,
      issued_at: new Date(now).toISOString(),
    });
  }

  #isGood(token: string, scope: string): boolean {
    const [claims = '', signature = ''] = token.split('.');
    if (!isSame(signature, this.#sign(claims))) return false;
    const { scopes, expiresAtMs } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
      scopes: string[];
      expiresAtMs: number;
    };
    return (
      this.#clock.now() < expiresAtMs &&
      (scope === '' || scopes.some((granted) => granted === scope || granted === `${scope},push`))
    );
  }

  #sign(claims: string): string {
    return createHmac('sha256', this.#key).update(claims).digest('base64url');
  }
}

function refusal(challenge: string): RegistryAnswer {
  return errorAnswer(new SpandrelError('UNAUTHORIZED', 'authentication required'), {
    'www-authenticate': challenge,
  });
}

function isBasic(authorization: string | undefined, username: string, password: string): boolean {
  return isSame(authorization ?? '', `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`);
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
