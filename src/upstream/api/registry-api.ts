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
import { Transport, type TransportOptions, type TransportResponse } from '../transport/transport.ts';

export interface RegistryApiOptions extends TransportOptions {
  readonly credentials: CredentialSource;
  /** Hosts of token services elsewhere that may get credentials. */
  readonly tokenHosts: readonly string[];
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
  /** No client sees any of the body before its digest is verified. */
  readonly isVerified?: boolean;
  /** Who asks; the proxy itself when not given. */
  readonly authorizer?: Authorizer;
  readonly signal: AbortSignal | undefined;
}

export interface ApiResponse extends TransportResponse {
  /** Where the answer came from after all redirects; may be signed: not for logs. */
  readonly url: URL;
  /** With a refusal: what may be the reason. */
  readonly hint?: string | undefined;
}

interface ScopedRequest extends ApiRequest {
  readonly authorizer: Authorizer;
  readonly scope: string;
}

/** What may be about credentials: 400 and 403 of tokens that have ended, 404 of what is hidden. */
const REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 404]);

/** Requests to the `/v2/` of one upstream: authenticated, redirects followed. Credentials go to the upstream's origin only. */
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
    this.#hidden = new HiddenChallenges({ transport, root, metrics: options.metrics });
  }

  /**
   * The answer, whatever its status other than a redirect. A refusal is answered with new credentials once; not that of a HEAD which had
   * some: registries refuse those for reasons of their own, and their answers say nothing. What is not found, or denied, without
   * credentials and without a challenge is asked for again with those that `/v2/` wants.
   * @throws SpandrelError UPSTREAM_* codes; the reason of the signal
   */
  async request(request: ApiRequest): Promise<ApiResponse> {
    const authorizer = request.authorizer ?? this.#authenticator;
    const scope = request.repository === '' ? '' : `repository:${request.repository}:pull`;
    const authorization = await authorizer.authorization(scope, request.signal);
    const response = await this.#ask({ ...request, authorizer, scope }, authorization);
    const isRefusal = this.isOwn(response.url) && (response.status === 401 || response.status === 403);
    return isRefusal ? { ...response, hint: authorizer.hint } : response;
  }

  async #ask(request: ScopedRequest, authorization: Secret | undefined): Promise<ApiResponse> {
    const { authorizer, scope, signal } = request;
    const given = await this.#follow(request, authorization);
    // What is not handed on does not keep its connection.
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
    return answer === 'ask-anew' ? this.#ask(request, undefined) : this.#follow(request, answer);
  }

  /** Whether an answer is about credentials, and what it wants. Without `challenges` it is final. */
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

  /** Once more, with what `/v2/` wants of us. Whatever is wrong with that, `unknown` has been answered in good order. */
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
      if (answer === undefined || answer === 'ask-anew') return first;
      const second = await this.#follow(request, answer);
      if (second.status !== 401 && second.status !== 403) return second;
      await second.body.discard();
      return first;
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      return first;
    }
  }

  /** The answer at the end of all redirects. `authorization` is sent to the upstream itself only. */
  async #follow(request: ApiRequest, authorization: Secret | undefined): Promise<ApiResponse> {
    const { kind, method = 'GET', signal } = request;
    const party = request.authorizer?.party;
    let url = this.#urlOf(request.path);
    if (request.query !== undefined) url.search = request.query.toString();
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const headers = {
        'accept-encoding': 'identity',
        ...request.headers,
        ...(authorization !== undefined && this.isOwn(url) ? { authorization: authorization.reveal() } : {}),
      };
      const response = await this.#transport.request({ kind, method, url, headers, party, signal });
      if (!isRedirect(response.status)) return await this.#assertProvable(request, { ...response, url });
      await response.body.discard();
      url = resolveRedirect(this.upstream, url, response.headers.location);
    }
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.upstream}: more than ${MAX_REDIRECTS} redirects`,
    );
  }

  /** Refuse an unproven response whose body no digest verifies. */
  async #assertProvable(
    { kind, method, isVerified = kind === 'blob' }: ApiRequest,
    response: ApiResponse,
  ): Promise<ApiResponse> {
    if (response.isUnproven !== true || method === 'HEAD' || isVerified) return response;
    await response.body.discard();
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.upstream}: a redirect to a private address, from which only content with a digest is accepted`,
    );
  }

  #urlOf(path: string): URL {
    return new URL(`${this.#base.href.replace(/\/+$/, '')}/v2/${path}`);
  }

  /** Asks this upstream in the name of a client: see {@link ClientAuthorizer}. */
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
    const reason = new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped');
    this.#authenticator.close(reason);
    this.#hidden.close(reason);
    await this.#transport[Symbol.asyncDispose]();
  }
}
