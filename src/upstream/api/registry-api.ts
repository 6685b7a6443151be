import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';
import type { UpstreamRequestKind } from '../../telemetry/metrics.ts';
import { Authenticator } from '../auth/authenticator.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { type Challenge, parseChallenges } from '../auth/challenge.ts';
import { ClientAuthorizer } from '../auth/client-authorizer.ts';
import type { CredentialSource } from '../credentials/credentials.ts';
import { readRefusal } from '../auth/refusal.ts';
import { HiddenChallenges } from '../auth/hidden-challenges.ts';
import { isRedirect, MAX_REDIRECTS, resolveRedirect } from '../transport/resolve-redirect.ts';
import {
  Transport,
  type TransportOptions,
  type TransportRequest,
  type TransportResponse,
} from '../transport/transport.ts';

export interface RegistryApiOptions extends TransportOptions {
  readonly credentials: CredentialSource;
  /** Token services of other domains that may receive the credentials. */
  readonly tokenHosts: readonly string[];
}

export interface ApiRequest {
  readonly kind: UpstreamRequestKind;
  readonly method?: TransportRequest['method'];
  /** Below `/v2/`. */
  readonly path: string;
  /** Instead of `path`: the Location of an upload, which may be on another host. */
  readonly url?: URL | undefined;
  readonly query?: URLSearchParams;
  /** Empty for requests without a repository. */
  readonly repository: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: TransportRequest['body'];
  readonly isRetried?: TransportRequest['isRetried'];
  /** Rights that the request needs; default `pull`. */
  readonly access?: 'pull' | 'pull,push';
  /** No client gets the body before its digest is verified. */
  readonly isVerified?: boolean;
  /** Default: the credentials of the proxy. */
  readonly authorizer?: Authorizer;
  readonly signal: AbortSignal | undefined;
}

export interface ApiResponse extends TransportResponse {
  /** URL of the response after all redirects. It may be signed: never log it. */
  readonly url: URL;
  /** A possible reason for a refusal. */
  readonly hint?: string | undefined;
}

interface ScopedRequest extends ApiRequest {
  readonly authorizer: Authorizer;
  readonly scope: string;
}

/** Statuses that may be about credentials: 400 and 403 for expired tokens, 404 for hidden content. */
const REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 404]);

/**
 * Sends requests to `/v2/` of one upstream, authenticates and follows redirects. Credentials go to the
 * upstream's origin only.
 */
export class RegistryApi implements AsyncDisposable {
  readonly upstream: string;
  readonly #base: URL;
  readonly #transport: Transport;
  readonly #authenticator: Authenticator;
  readonly #hidden: HiddenChallenges;
  readonly #tokenHosts: readonly string[];

  constructor(options: RegistryApiOptions) {
    this.upstream = options.upstream;
    this.#base = options.base;
    this.#transport = new Transport(options);
    this.#tokenHosts = options.tokenHosts;
    this.#authenticator = new Authenticator({ ...options, transport: this.#transport });
    const [transport, root] = [this.#transport, this.#urlOf('')];
    this.#hidden = new HiddenChallenges({ transport, root, events: options.events });
  }

  /**
   * Resolves to the response after redirects, whatever its status. A refusal is retried once with new
   * credentials, except that of a HEAD with credentials: registries refuse HEAD for other reasons, and the
   * response does not say which. If a request without credentials gets 404 or 403 and no challenge, it is
   * retried with the credentials that `/v2/` asks for.
   * @throws SpandrelError UPSTREAM_* codes; the reason of the signal
   */
  async request(request: ApiRequest): Promise<ApiResponse> {
    const authorizer = request.authorizer ?? this.#authenticator;
    const { repository, access = 'pull' } = request;
    const scope = repository === '' ? '' : `repository:${repository}:${access}`;
    const authorization = await authorizer.authorization(scope, request.signal);
    const response = await this.#ask({ ...request, authorizer, scope }, authorization);
    const isOwn = this.isOwn(response.url);
    if (isOwn) authorizer.noteStatus?.(response.status);
    const isRefusal = isOwn && (response.status === 401 || response.status === 403);
    return isRefusal ? { ...response, hint: authorizer.hint } : response;
  }

  async #ask(request: ScopedRequest, authorization: Secret | undefined): Promise<ApiResponse> {
    const { authorizer, scope, signal } = request;
    const given = await this.#follow(request, authorization);
    // A response that is not returned must not keep its connection.
    using unread = new DisposableStack();
    unread.use(given.body);
    const { response, challenges, isHidden } = await this.#judge(request, given, authorization);
    const final = (): ApiResponse => {
      unread.move();
      return response;
    };
    if (challenges === undefined) return final();
    if (isHidden && challenges.length === 0) return final();
    if (isHidden) return await this.#askKnown(request, response, challenges);
    const answer = await authorizer.answer(scope, challenges, authorization, signal);
    if (answer === undefined) return final();
    await response.body.discard();
    return answer === 'retry-without' ? this.#ask(request, undefined) : this.#follow(request, answer);
  }

  /** Decides whether a response asks for credentials. Without `challenges` it is final. */
  async #judge(
    request: ScopedRequest,
    response: ApiResponse,
    authorization: Secret | undefined,
  ): Promise<{ response: ApiResponse; challenges?: readonly Challenge[]; isHidden?: boolean }> {
    const { status, headers, url } = response;
    const isHead = request.method === 'HEAD';
    if (!REFUSALS.has(status) || !this.isOwn(url) || (isHead && authorization !== undefined))
      return { response };
    const challenges = parseChallenges(headers['www-authenticate']);
    if (authorization !== undefined) {
      if (status === 401) return { response, challenges };
      if (status === 404) return { response };
      const { isExpiry, response: read } = await readRefusal(this.upstream, response);
      return { response: { ...read, url }, ...(isExpiry ? { challenges } : {}) };
    }
    if ((status === 401 || status === 403) && challenges.length > 0) return { response, challenges };
    if (status === 400 || request.repository === '') return { response };
    return { response, challenges: await this.#hidden.read(request.signal), isHidden: true };
  }

  /**
   * Retries with the credentials that `/v2/` asks for. If that fails in any way, the first response, which is
   * valid, is final.
   */
  async #askKnown(
    request: ScopedRequest,
    unknown: ApiResponse,
    challenges: readonly Challenge[],
  ): Promise<ApiResponse> {
    const { authorizer, scope, signal } = request;
    const { response: kept } = await readRefusal(this.upstream, unknown);
    const first = { ...kept, url: unknown.url };
    try {
      const answer = await authorizer.answer(scope, challenges, undefined, signal);
      if (answer === undefined || answer === 'retry-without') return first;
      const second = await this.#follow(request, answer);
      if (second.status !== 401 && second.status !== 403) return second;
      await second.body.discard();
      return first;
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      return first;
    }
  }

  /** Follows redirects. `authorization` is sent to the upstream's origin only. */
  async #follow(request: ApiRequest, authorization: Secret | undefined): Promise<ApiResponse> {
    const { kind, method = 'GET', body, isRetried, signal } = request;
    const party = request.authorizer?.party;
    let url = request.url ?? this.#urlOf(request.path);
    if (request.query !== undefined) url.search = request.query.toString();
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const headers = {
        'accept-encoding': 'identity',
        ...request.headers,
        ...(authorization !== undefined && this.isOwn(url) ? { authorization: authorization.reveal() } : {}),
      };
      const response = await this.#transport.request({
        kind,
        method,
        url,
        headers,
        body,
        isRetried,
        party,
        signal,
      });
      if (!isRedirect(response.status)) return await this.#assertProvable(request, { ...response, url });
      await response.body.discard();
      url = resolveRedirect(this.upstream, url, response.headers.location);
    }
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.upstream}: more than ${MAX_REDIRECTS} redirects`,
    );
  }

  /** Refuses an unproven response whose body no digest will verify. */
  async #assertProvable(
    { kind, method = 'GET', isVerified = kind === 'blob' }: ApiRequest,
    response: ApiResponse,
  ): Promise<ApiResponse> {
    if (response.isUnproven !== true || method !== 'GET' || isVerified) return response;
    await response.body.discard();
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.upstream}: a redirect to a private address, from which only content with a ` +
        'digest is accepted',
    );
  }

  #urlOf(path: string): URL {
    return new URL(`${this.#base.href.replace(/\/+$/, '')}/v2/${path}`);
  }

  /** An authorizer for requests on behalf of a client. */
  clientAuthorizer(authorization: Secret | undefined, answersChallenges: boolean): Authorizer {
    return new ClientAuthorizer({
      upstream: this.upstream,
      base: this.#base,
      tokenHosts: this.#tokenHosts,
      transport: this.#transport,
      authorization,
      answersChallenges,
    });
  }

  /** Requests a URL on another host that an earlier response came from, without credentials and redirects. */
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

  /** True if `url` has the upstream's origin. */
  isOwn(url: URL): boolean {
    return url.origin === this.#base.origin;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const reason = new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped');
    this.#authenticator.close(reason);
    this.#hidden.close(reason);
    await this.#transport[Symbol.asyncDispose]();
  }
}
