import { SpandrelError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import type { UpstreamRequestKind } from '../telemetry/metrics.ts';
import { Authenticator } from './authenticator.ts';
import type { Authorizer } from './authorizer.ts';
import { parseChallenges } from './challenge.ts';
import { ClientAuthorizer } from './client-authorizer.ts';
import type { CredentialSource } from './credentials.ts';
import { readRefusal } from './expired-token.ts';
import { isRedirect, MAX_REDIRECTS, resolveRedirect } from './redirect.ts';
import { Transport, type TransportOptions, type TransportResponse } from './transport.ts';

export interface RegistryApiOptions extends TransportOptions {
  readonly credentials: CredentialSource;
}

export interface ApiRequest {
  readonly kind: UpstreamRequestKind;
  readonly method?: 'GET' | 'HEAD';
  /** Below `/v2/`. */
  readonly path: string;
  readonly query?: URLSearchParams;
  /** Empty for requests that concern no repository. */
  readonly repository: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Who asks; the proxy itself when not given. */
  readonly authorizer?: Authorizer;
  readonly signal: AbortSignal | undefined;
}

export interface ApiResponse extends TransportResponse {
  /** Where the answer came from after all redirects; may be signed: not for logs. */
  readonly url: URL;
}

/** Requests to the `/v2/` of one upstream: authenticated, redirects followed. Credentials go to the upstream's origin only. */
export class RegistryApi implements AsyncDisposable {
  readonly upstream: string;
  readonly #base: URL;
  readonly #transport: Transport;
  readonly #authenticator: Authenticator;

  constructor(options: RegistryApiOptions) {
    this.upstream = options.upstream;
    this.#base = options.base;
    this.#transport = new Transport(options);
    this.#authenticator = new Authenticator({ ...options, transport: this.#transport });
  }

  /**
   * The answer, whatever its status other than a redirect. A refusal is answered with new credentials once; not that of a HEAD which had
   * some: registries refuse those for reasons of their own, and their answers say nothing.
   * @throws SpandrelError UPSTREAM_* codes, UNAUTHORIZED if a token service refuses; the reason of the signal
   */
  async request(request: ApiRequest): Promise<ApiResponse> {
    const { kind, signal } = request;
    const method = request.method ?? 'GET';
    let url = new URL(`${this.#base.href.replace(/\/+$/, '')}/v2/${request.path}`);
    if (request.query !== undefined) url.search = request.query.toString();
    const authorizer = request.authorizer ?? this.#authenticator;
    const scope = request.repository === '' ? '' : `repository:${request.repository}:pull`;
    let answered = false;
    let renewed: Secret | undefined;
    for (let redirects = 0; redirects <= MAX_REDIRECTS;) {
      const isOwn = url.origin === this.#base.origin;
      const authorization = isOwn ? (renewed ?? (await authorizer.authorization(scope, signal))) : undefined;
      const headers = {
        'accept-encoding': 'identity',
        ...request.headers,
        ...(authorization === undefined ? {} : { authorization: authorization.reveal() }),
      };
      let response = await this.#transport.request({ kind, method, url, headers, signal });
      const mayAnswer = isOwn && !answered && (method === 'GET' || authorization === undefined);
      let isRefused = mayAnswer && response.status === 401;
      if (mayAnswer && authorization !== undefined && (response.status === 400 || response.status === 403)) {
        ({ isExpiry: isRefused, response } = await readRefusal(this.upstream, response));
      }
      if (isRefused) {
        answered = true;
        const challenges = parseChallenges(response.headers['www-authenticate']);
        renewed = await authorizer.answer(scope, challenges, authorization, signal);
        if (renewed === undefined) return { ...response, url };
        await response.body.discard();
      } else if (isRedirect(response.status)) {
        await response.body.discard();
        url = resolveRedirect(this.upstream, url, response.headers.location);
        redirects++;
      } else {
        return { ...response, url };
      }
    }
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.upstream}: more than ${MAX_REDIRECTS} redirects`,
    );
  }

  /** Asks this upstream in the name of a client: see {@link ClientAuthorizer}. */
  clientAuthorizer(authorization: Secret | undefined, answersChallenges: boolean): Authorizer {
    const [upstream, base, transport] = [this.upstream, this.#base, this.#transport];
    return new ClientAuthorizer({ upstream, base, transport, authorization, answersChallenges });
  }

  /** The answer of a URL that an earlier answer came from, on another host: asked without credentials, no redirects. */
  async requestUrl(url: URL, request: Pick<ApiRequest, 'kind' | 'headers' | 'signal'>): Promise<ApiResponse> {
    const headers = { 'accept-encoding': 'identity', ...request.headers };
    const response = await this.#transport.request({
      kind: request.kind,
      method: 'GET',
      url,
      headers,
      signal: request.signal,
    });
    return { ...response, url };
  }

  /** True if `url` is at the upstream itself. */
  isOwn(url: URL): boolean {
    return url.origin === this.#base.origin;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#authenticator.close(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await this.#transport[Symbol.asyncDispose]();
  }
}
