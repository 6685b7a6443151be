import type { ServerResponse } from 'node:http';

import { digestOf } from '../../../src/core/digest.ts';
import { ScriptedUpstream, type SeenRequest } from './scripted-upstream.ts';
import { noteSecret } from '../secrets.ts';

export const PRIVATE_MANIFEST = Buffer.from('{"schemaVersion":2}');
export const PRIVATE_BLOB = Buffer.from('the bytes of a private layer');
export const PRIVATE_DIGEST = digestOf(PRIVATE_BLOB);

/**
 * The `Authorization` of a client; a password of at least eight characters is looked for in what proxies
 * print.
 */
export function basic(user: string, password: string): string {
  if (password.length >= 8) noteSecret(`password of ${user}`, password);
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

/**
 * A registry in which each user has the repository of the same name, the password `pw-` and the name, and
 * nothing else. The user `proxy` has all. `open` is for anybody. With `bearer` it has a token service.
 */
export class PrivateRegistry implements AsyncDisposable {
  readonly upstream: ScriptedUpstream;
  /** While set, everything is answered 503. */
  isDown = false;
  /** Users that have been locked out. */
  readonly revoked = new Set<string>();
  readonly #scheme: 'basic' | 'bearer';

  private constructor(scheme: 'basic' | 'bearer', upstream: ScriptedUpstream) {
    this.#scheme = scheme;
    this.upstream = upstream;
  }

  static async start(scheme: 'basic' | 'bearer'): Promise<PrivateRegistry> {
    const registry: PrivateRegistry = new PrivateRegistry(
      scheme,
      await ScriptedUpstream.start((request, response) => registry.answer(request, response)),
    );
    return registry;
  }

  get url(): string {
    return this.upstream.url;
  }

  /** Requests that came with the credentials of `user`, tokens included. */
  requestsOf(user: string): SeenRequest[] {
    return this.upstream.requests.filter(({ headers }) => {
      const { authorization } = headers;
      return (
        authorization === basic(user, `pw-${user}`) || authorization?.includes(`token-${user}.`) === true
      );
    });
  }

  answer({ method, url, headers: { authorization } }: SeenRequest, response: ServerResponse): void {
    if (this.isDown) return void response.writeHead(503).end();
    const { pathname, searchParams } = new URL(url, 'http://registry');
    const user = this.#userOf(authorization);
    if (pathname === '/token') {
      const scope = searchParams.get('scope') ?? 'none';
      if (authorization !== undefined && user === undefined) return void response.writeHead(401).end();
      return void response.end(
        JSON.stringify({
          token: noteSecret('token', `token-${user ?? 'nobody'}.${scope.split(':')[1] ?? ''}`),
        }),
      );
    }
    const repository = /^\/v2\/(.+?)\/(manifests|blobs|tags|referrers)\//.exec(pathname)?.[1] ?? '';
    const isOpen = repository === 'open' && (this.#scheme === 'basic' || authorization !== undefined);
    if (!isOpen && (user === undefined || user === 'nobody')) return this.#challenge(repository, response);
    if (!isOpen && repository !== '' && user !== repository && user !== 'proxy')
      return void response.writeHead(403).end();
    if (pathname.endsWith('/manifests/1.0') || pathname.endsWith(digestOf(PRIVATE_MANIFEST))) {
      response.setHeader('content-type', 'application/vnd.oci.image.manifest.v1+json');
      return void response.end(method === 'HEAD' ? undefined : PRIVATE_MANIFEST);
    }
    if (pathname.endsWith(PRIVATE_DIGEST))
      return void response.end(method === 'HEAD' ? undefined : PRIVATE_BLOB);
    if (pathname.endsWith('/tags/list')) return void response.end(JSON.stringify({ tags: ['1.0'] }));
    if (pathname === '/v2/') return void response.end('{}');
    response.writeHead(404).end();
  }

  #userOf(authorization: string | undefined): string | undefined {
    const [, token] = /^Bearer token-(.*?)\./.exec(authorization ?? '') ?? [];
    const [name = '', password] = Buffer.from((authorization ?? '').replace(/^Basic /, ''), 'base64')
      .toString()
      .split(':');
    const user = token ?? (password === `pw-${name}` ? name : undefined);
    return user !== undefined && this.revoked.has(user) ? undefined : user;
  }

  #challenge(repository: string, response: ServerResponse): void {
    const scope = repository === '' ? '' : `,scope="repository:${repository}:pull"`;
    response.setHeader(
      'www-authenticate',
      this.#scheme === 'basic'
        ? 'Basic realm="private"'
        : `Bearer realm="${this.url}/token",service="private"${scope}`,
    );
    response.writeHead(401).end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.upstream[Symbol.asyncDispose]();
  }
}
