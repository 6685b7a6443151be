import { SpandrelError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { isMetadataAddress } from './address-guard.ts';
import type { Challenge } from './challenge.ts';
import type { Transport } from './transport.ts';

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

export interface TokenQuery {
  readonly upstream: string;
  /** URL of the upstream itself. */
  readonly base: URL;
  readonly realm: URL;
  readonly service: string | undefined;
  /** Space-separated. */
  readonly scope: string | undefined;
  /** Basic credentials; the token is anonymous without. */
  readonly credentials: Secret | undefined;
  readonly signal: AbortSignal;
}

/**
 * Ask a token service.
 * @see distribution, docs/content/spec/auth/token.md
 * @throws SpandrelError UNAUTHORIZED, UPSTREAM_THROTTLED, UPSTREAM_PROTOCOL, and what the transport throws
 */
export async function fetchToken(transport: Transport, query: TokenQuery): Promise<Token> {
  const { upstream, realm, service, scope, credentials } = query;
  if (isMetadataAddress(realm.hostname) && realm.hostname !== query.base.hostname) {
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: its token service has a link-local address`,
    );
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const part of scope?.split(' ') ?? []) if (part !== '') url.searchParams.append('scope', part);
  const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity' };
  if (credentials !== undefined) headers['authorization'] = credentials.reveal();
  const response = await transport.request({
    kind: 'token',
    method: 'GET',
    url,
    headers,
    signal: query.signal,
  });
  if (response.status !== 200) {
    await response.body.discard();
    throw refusal(upstream, response.status);
  }
  return parseToken(upstream, (await response.body.read(MAX_TOKEN_ANSWER_BYTES)).toString());
}

function refusal(upstream: string, status: number): SpandrelError {
  const message = `upstream ${upstream}: its token service answered ${status}`;
  if (status === 401 || status === 403) return new SpandrelError('UNAUTHORIZED', message);
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
