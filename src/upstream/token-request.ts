import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import type { Transport, TransportResponse } from './transport.ts';

/** A token as an `Authorization` value. */
export interface Token {
  readonly authorization: Secret;
  /** Seconds from now, as the service said. */
  readonly expiresInSeconds: number;
}

const MAX_TOKEN_ANSWER_BYTES = 256 * 1024;
/** Distribution's token specification: what holds where the service names no time. */
const DEFAULT_EXPIRES_IN_SECONDS = 60;

/** Where a Bearer challenge sends us. @throws SpandrelError UPSTREAM_PROTOCOL */
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

/** What a token is asked for: what the challenge names, else the `scope` of the request that was refused. */
export function wantedScope(challenge: Challenge, scope: string): string | undefined {
  return challenge.parameters.get('scope') ?? (scope === '' ? undefined : scope);
}

export interface TokenQuery {
  readonly upstream: string;
  readonly realm: URL;
  readonly service: string | undefined;
  /** Space-separated. */
  readonly scope: string | undefined;
  /** Basic ones or an identity token; the token is anonymous without. */
  readonly credentials: Credentials | undefined;
  readonly signal: AbortSignal;
}

/** How the proxy calls itself to token services. */
const CLIENT_ID = 'spandrel';

/**
 * Ask a token service: by GET, or by POST with an identity token.
 * @see distribution, docs/content/spec/auth/token.md and oauth.md
 * @throws SpandrelError UNAUTHORIZED, UPSTREAM_THROTTLED, UPSTREAM_PROTOCOL, and what the transport throws
 */
export async function fetchToken(transport: Transport, query: TokenQuery): Promise<Token> {
  const { upstream, realm, service, scope, credentials } = query;
  const fields = new URLSearchParams();
  if (service !== undefined) fields.set('service', service);
  const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity' };
  const common = { kind: 'token', headers, signal: query.signal } as const;
  let response: TransportResponse;
  if (credentials?.kind === 'identity-token') {
    fields.set('grant_type', 'refresh_token');
    fields.set('refresh_token', credentials.token.reveal());
    fields.set('client_id', CLIENT_ID);
    if (scope !== undefined) fields.set('scope', scope);
    headers['content-type'] = 'application/x-www-form-urlencoded';
    response = await transport.request({ ...common, method: 'POST', url: realm, body: fields.toString() });
  } else {
    for (const part of scope?.split(' ') ?? []) if (part !== '') fields.append('scope', part);
    const url = new URL(realm);
    for (const [name, value] of fields) url.searchParams.append(name, value);
    if (credentials !== undefined) headers['authorization'] = credentials.authorization.reveal();
    response = await transport.request({ ...common, method: 'GET', url });
  }
  if (response.status !== 200) {
    await response.body.discard();
    throw refusal(upstream, response.status, credentials !== undefined);
  }
  return parseToken(upstream, (await response.body.read(MAX_TOKEN_ANSWER_BYTES)).toString());
}

function refusal(upstream: string, status: number, hadCredentials: boolean): SpandrelError {
  const message = `upstream ${upstream}: its token service answered ${status}`;
  // 400 is OAuth 2's way to refuse a refresh token (RFC 6749, section 5.2), and ECR Public's to say that its token has expired.
  if (status === 401 || status === 403 || (status === 400 && hadCredentials))
    return new SpandrelError('UNAUTHORIZED', message);
  if (status === 429) return new SpandrelError('UPSTREAM_THROTTLED', message);
  return new SpandrelError(status >= 500 ? 'UPSTREAM_UNREACHABLE' : 'UPSTREAM_PROTOCOL', message);
}

function parseToken(upstream: string, text: string): Token {
  const answer = parseObject(text);
  const token = answer['token'] ?? answer['access_token'];
  // A header takes visible ASCII only; an empty token means that the service knows none for us.
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: its token service sent no token`);
  }
  const lifetime = answer['expires_in'];
  return {
    authorization: new Secret(`Bearer ${token}`),
    expiresInSeconds: typeof lifetime === 'number' && lifetime > 0 ? lifetime : DEFAULT_EXPIRES_IN_SECONDS,
  };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    // No JSON is no token; that is what the caller then says.
    return {};
  }
}
