import { Secret } from '../core/secret.ts';
import { text, type ValueKind, ValueProblem } from './value-kinds.ts';

/** An HTTP proxy through which this proxy reaches registries. */
export interface OutboundProxy {
  /** `http(s)://host:port`, without credentials. */
  readonly origin: string;
  /** Value of `Proxy-Authorization`. */
  readonly authorization?: Secret;
}

/** Messages never contain the value: it may hold a password. */
export const outboundProxy: ValueKind<OutboundProxy> = {
  expects: 'http(s)://[user:password@]host[:port]',
  schema: text.schema,
  parse(raw) {
    const given = typeof raw === 'string' ? raw.trim() : '';
    // Values without a scheme, like `proxy:3128`, are common in HTTPS_PROXY.
    const address = /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? given : `http://${given}`;
    const url = given !== '' && URL.canParse(address) ? new URL(address) : undefined;
    const isOrigin =
      url !== undefined &&
      /^https?:$/.test(url.protocol) &&
      url.pathname === '/' &&
      url.search + url.hash === '';
    if (!isOrigin) throw new ValueProblem(`expected ${outboundProxy.expects} (the value is not shown)`);
    if (url.username === '' && url.password === '') return { origin: url.origin };
    return { origin: url.origin, authorization: basicAuthorization(url) };
  },
};

function basicAuthorization({ username, password }: URL): Secret {
  let pair: string;
  try {
    pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    throw new ValueProblem(`expected user and password with % encoded as %25 (the value is not shown)`);
  }
  return new Secret(`Basic ${Buffer.from(pair).toString('base64')}`);
}
