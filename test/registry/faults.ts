/**
 * What goes wrong. Numbers of bytes count the response body, but `atByte` the whole content, whatever range
 * of it is asked for.
 */
export type FaultAction =
  /** Another answer; without `body`, an OCI error body. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** The connection is reset, after so many bytes of the body, or before any answer. */
  | { readonly kind: 'reset'; readonly afterBytes?: number }
  /** The answer stops, and the connection stays open. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** The connection is closed in good order before the announced Content-Length has been sent. */
  | { readonly kind: 'truncate'; readonly afterBytes: number }
  /** One bit of this byte of the content is flipped. */
  | { readonly kind: 'corrupt'; readonly atByte: number }
  /** One bit of every response is flipped, at this share of its body, in [0, 1). */
  | { readonly kind: 'corrupt'; readonly atShare: number }
  /**
   * A well-formed answer whose Content-Length and body are so many bytes longer or shorter than the content.
   */
  | { readonly kind: 'length'; readonly delta: number }
  /** The connection breaks while the request's body arrives; an upload keeps so many bytes of it. */
  | { readonly kind: 'cut'; readonly keptBytes: number }
  /** Nothing is answered until `until` resolves; then all is well. */
  | { readonly kind: 'hold'; readonly until: Promise<unknown> };

/** A request as faults see it. */
export interface FaultRequest {
  readonly listener: 'registry' | 'blobs';
  readonly method: string;
  /** Without the query; `/blobs/<repository>/<digest>` on the listener that blobs are redirected to. */
  readonly path: string;
  readonly query: string;
  /** The Range header. */
  readonly range: string | undefined;
}

/** All of what is given has to fit. */
export interface FaultPattern {
  readonly method?: string;
  readonly path?: RegExp;
  readonly listener?: 'registry' | 'blobs';
}

export interface FaultRule {
  readonly match: FaultPattern | ((request: FaultRequest) => boolean);
  /** How many requests it is for; all when not given. */
  readonly times?: number;
  readonly action: FaultAction;
  /** Told of each request that the rule is used for. */
  readonly onUse?: (request: FaultRequest) => void;
}

/** The rules in force. The first that matches and is not used up takes effect. */
export class Faults {
  #rules: { readonly rule: FaultRule; left: number }[] = [];

  /** Instead of all rules so far. */
  set(rules: readonly FaultRule[]): void {
    this.#rules = rules.map((rule) => ({ rule, left: rule.times ?? Infinity }));
  }

  /** After the rules so far. */
  add(...rules: readonly FaultRule[]): void {
    this.#rules.push(...rules.map((rule) => ({ rule, left: rule.times ?? Infinity })));
  }

  clear(): void {
    this.set([]);
  }

  /** What happens to this request; counts as one use of the rule. */
  take(request: FaultRequest): FaultAction | undefined {
    const found = this.#rules.find(({ rule, left }) => left > 0 && matches(rule.match, request));
    if (found === undefined) return undefined;
    found.left--;
    found.rule.onUse?.(request);
    return found.rule.action;
  }
}

function matches(match: FaultRule['match'], request: FaultRequest): boolean {
  if (typeof match === 'function') return match(request);
  const { method, path, listener } = match;
  return (
    (method === undefined || method === request.method) &&
    // A sticky or global expression would remember where it has been.
    (path === undefined || request.path.search(path) >= 0) &&
    (listener === undefined || listener === request.listener)
  );
}
