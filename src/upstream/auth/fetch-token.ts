import { type ErrorCode, SpandrelError } from '../../core/errors.ts';
import { isJsonObject, parseJson } from '../../core/json/parse-json.ts';
import { Secret } from '../../core/secret.ts';
import type { Challenge } from './challenge.ts';
import type { Credentials } from '../credentials/credentials.ts';
import { isRedirect, MAX_REDIRECTS, resolveRedirect } from '../transport/resolve-redirect.ts';
import type { Transport, TransportResponse } from '../transport/transport.ts';
import { describeFailure } from '../faults/failed-response.ts';
import { readWords } from '../faults/upstream-words.ts';

/** A token, as an `Authorization` value. */
export interface Token {
  readonly authorization: Secret;
  /** Lifetime in seconds, as the service says. */
  readonly expiresInSeconds: number;
}

const MAX_TOKEN_ANSWER_BYTES = 256 * 1024;
/** Lifetime if the service names none: token specification of distribution. */
const DEFAULT_EXPIRES_IN_SECONDS = 60;

/** URL of the token service that a Bearer challenge names. @throws SpandrelError UPSTREAM_PROTOCOL */
export function parseRealm(upstream: string, challenge: Challenge): URL {
  const realm = challenge.parameters.get('realm') ?? '';
  const url = URL.canParse(realm) ? new URL(realm) : undefined;
  if (
    url === undefined ||
    !['http:', 'https:'].includes(url.protocol) ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: its challenge names no token service`,
    );
  }
  return url;
}

/**
 * The scope to request: that of the challenge, else that of the refused request. If the challenge names only
 * other resources (a catalog, another repository), both: the service grants those that it knows.
 */
export function wantedScope(challenge: Challenge, scope: string): string | undefined {
  const named =
    challenge.parameters
      .get('scope')
      ?.split(' ')
      .filter((part) => part !== '') ?? [];
  if (named.length === 0) return scope === '' ? undefined : scope;
  const own = scope.slice(0, scope.lastIndexOf(':') + 1);
  // ECR Public's scope "aws" covers all repositories.
  const isElsewhere = scope !== '' && named.every((part) => /^\w+:.+:/.test(part) && !part.startsWith(own));
  // The challenge to a read does not name the right to push.
  const widened = named.map((part) => (part === `${own}pull` ? scope : part));
  return (isElsewhere ? [...named, scope] : widened).join(' ');
}

export interface TokenQuery {
  readonly upstream: string;
  readonly realm: URL;
  readonly service: string | undefined;
  /** Space-separated. */
  readonly scope: string | undefined;
  /** Basic credentials or an identity token. Without any, the token is anonymous. */
  readonly credentials: Credentials | undefined;
  /** Whether a host that the token service redirects to may receive the credentials. */
  readonly trusts: (place: URL) => boolean;
  /** As {@link Authorizer.hint}. */
  readonly hint?: string | undefined;
  /** As {@link HeldRequest.party}. */
  readonly party?: string | undefined;
  readonly signal: AbortSignal;
}

/** `client_id` in requests to token services. */
const CLIENT_ID = 'spandrel';

/**
 * Requests a token, by GET, or by POST with an identity token.
 * @see distribution, docs/content/spec/auth/token.md and oauth.md
 * @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED, UPSTREAM_THROTTLED, UPSTREAM_PROTOCOL, and what the
 * transport throws
 */
export async function fetchToken(transport: Transport, query: TokenQuery): Promise<Token> {
  const { upstream, credentials } = query;
  const response = await requestToken(transport, query);
  if (response.status !== 200) {
    const code = codeOf(response.status, credentials !== undefined);
    const hint = code === 'UPSTREAM_CREDENTIALS_REFUSED' ? query.hint : undefined;
    const words = await readWords(response);
    const subject = `upstream ${upstream}: its token service answered`;
    throw describeFailure(subject, upstream, { ...response, hint }, { words, code });
  }
  return parseToken(query, parseObject(await response.body.read(MAX_TOKEN_ANSWER_BYTES)));
}

async function requestToken(transport: Transport, query: TokenQuery): Promise<TransportResponse> {
  const { upstream, realm, credentials, trusts, party, signal } = query;
  const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity' };
  const post = credentials?.kind === 'identity-token' ? postFields(query, credentials.token) : undefined;
  if (post !== undefined) headers['content-type'] = 'application/x-www-form-urlencoded';
  else if (credentials?.kind !== 'identity-token' && credentials !== undefined)
    headers['authorization'] = credentials.authorization.reveal();
  let url = post === undefined ? withFields(query) : realm;
  let body = post?.toString();
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const request = { kind: 'token', url, headers, party, signal } as const;
    const response = await transport.request(
      body === undefined ? { ...request, method: 'GET' } : { ...request, method: 'POST', body },
    );
    if (!isRedirect(response.status)) return response;
    await response.body.discard();
    url = resolveRedirect(upstream, url, response.headers.location);
    // RFC 9110, section 15.4: only 307 and 308 keep method and body. After others, clients send GET.
    if (response.status < 307) {
      body = undefined;
      delete headers['content-type'];
    }
    if (trusts(url)) continue;
    delete headers['authorization'];
    if (body === undefined) continue;
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: its token service redirects to ${url.host}, which gets no credentials: ` +
        'allow it in tokenHosts',
    );
  }
  throw new SpandrelError(
    'UPSTREAM_PROTOCOL',
    `upstream ${upstream}: its token service redirects more than ${MAX_REDIRECTS} times`,
  );
}

function withFields({ realm, service, scope }: TokenQuery): URL {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.append('service', service);
  for (const part of scope?.split(' ') ?? []) if (part !== '') url.searchParams.append('scope', part);
  return url;
}

function postFields({ service, scope }: TokenQuery, refreshToken: Secret): URLSearchParams {
  return new URLSearchParams({
    ...(service === undefined ? {} : { service }),
    grant_type: 'refresh_token',
    refresh_token: refreshToken.reveal(),
    client_id: CLIENT_ID,
    ...(scope === undefined ? {} : { scope }),
  });
}

function codeOf(status: number, hadCredentials: boolean): ErrorCode {
  // 400 refuses a refresh token in OAuth 2 (RFC 6749, section 5.2), and reports an expired token in ECR
  // Public.
  if (status === 401 || status === 403 || (status === 400 && hadCredentials))
    return 'UPSTREAM_CREDENTIALS_REFUSED';
  if (status === 429) return 'UPSTREAM_THROTTLED';
  return status >= 500 ? 'UPSTREAM_UNREACHABLE' : 'UPSTREAM_PROTOCOL';
}

/**
 * Services send `token`, or `access_token` (OAuth 2), or both. @see distribution,
 * docs/content/spec/auth/token.md
 */
function parseToken({ upstream, hint }: TokenQuery, answer: Record<string, unknown>): Token {
  const token = [answer['token'], answer['access_token']].find(isToken);
  if (token === undefined) {
    if ('error' in answer || 'errors' in answer)
      throw new SpandrelError(
        'UPSTREAM_CREDENTIALS_REFUSED',
        `upstream ${upstream}: its token service refuses a token${hint === undefined ? '' : `; ${hint}`}`,
      );
    throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: its token service sent no token`);
  }
  // `issued_at` is ignored: clocks differ. A token that expires earlier is refused, and then renewed.
  const lifetime = Number(answer['expires_in'] ?? DEFAULT_EXPIRES_IN_SECONDS);
  return {
    authorization: new Secret(`Bearer ${token.trim()}`),
    expiresInSeconds: Number.isFinite(lifetime) && lifetime > 0 ? lifetime : DEFAULT_EXPIRES_IN_SECONDS,
  };
}

/** Header values are visible ASCII. An empty token means that the service grants none. */
function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value.trim());
}

function parseObject(bytes: Buffer): Record<string, unknown> {
  try {
    const value = parseJson(bytes);
    return isJsonObject(value) ? value : {};
  } catch {
    // The caller reports a body without a token.
    return {};
  }
}
