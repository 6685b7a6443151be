import type { Secret } from '../core/secret.ts';
import { choice, flag, list, record, secret, text, type ValueKind, ValueProblem } from './value-kinds.ts';

/** How the proxy proves itself to an upstream. */
export type UpstreamAuth =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: Secret }
  | { readonly kind: 'basic'; readonly username: string; readonly passwordFile: string };

/** One registry behind the proxy. */
export interface UpstreamConfig {
  /** First path segment that chooses this upstream; also its label in metrics and logs. */
  readonly name: string;
  /** The registry's own name as in image references: what `?ns=` says. */
  readonly host: string;
  /** Where it is reached: scheme, host and port, perhaps a path before `/v2/`. No trailing slash. */
  readonly url: string;
  /** Values of the Host header that choose this upstream. */
  readonly hostnames: readonly string[];
  readonly default: boolean;
  /** PEM file of a private certificate authority. */
  readonly ca?: string;
  readonly auth: UpstreamAuth;
}

interface RawAuth {
  kind: 'anonymous' | 'basic';
  username?: string;
  password?: Secret;
  passwordFile?: string;
}

const rawAuth = record<RawAuth>({
  kind: { kind: choice('anonymous', 'basic'), optional: false },
  username: { kind: text, optional: true },
  password: { kind: secret, optional: true },
  passwordFile: { kind: text, optional: true },
});

const auth: ValueKind<UpstreamAuth> = {
  expects: '{kind: anonymous} or {kind: basic, username, password or passwordFile}',
  parse(raw) {
    const { kind, username, password, passwordFile } = rawAuth.parse(raw);
    if (kind === 'anonymous') {
      if (username !== undefined || password !== undefined || passwordFile !== undefined) {
        throw new ValueProblem('kind anonymous takes no username or password');
      }
      return { kind };
    }
    if (username === undefined) throw new ValueProblem('kind basic needs a username');
    if (password !== undefined && passwordFile === undefined) return { kind, username, password };
    if (passwordFile !== undefined && password === undefined) return { kind, username, passwordFile };
    throw new ValueProblem('kind basic needs either password or passwordFile');
  },
};

const rawUpstream = record<Partial<UpstreamConfig>>({
  name: { kind: text, optional: true },
  host: { kind: text, optional: true },
  url: { kind: text, optional: true },
  hostnames: { kind: list(text), optional: true },
  default: { kind: flag, optional: true },
  ca: { kind: text, optional: true },
  auth: { kind: auth, optional: true },
});

/** An upstream needs `url` or `host`; each of the two, and `name`, is taken from the other where it is missing. */
export const upstream: ValueKind<UpstreamConfig> = {
  expects: rawUpstream.expects,
  parse(raw) {
    const given = rawUpstream.parse(raw);
    const address = given.url ?? (given.host === undefined ? undefined : `https://${given.host}`);
    if (address === undefined) throw new ValueProblem('url or host is missing');
    const url = URL.canParse(address) ? new URL(address) : undefined;
    if (
      url === undefined ||
      !['http:', 'https:'].includes(url.protocol) ||
      url.search !== '' ||
      url.hash !== ''
    ) {
      throw new ValueProblem(`url: expected http(s)://host[:port][/path], got ${JSON.stringify(address)}`);
    }
    if (url.username !== '' || url.password !== '') {
      throw new ValueProblem('url: credentials belong into auth, not into the url');
    }
    const host = given.host ?? url.host;
    const name = given.name ?? host;
    if (!/^[a-z0-9]+([._:-]+[a-z0-9]+)*$/.test(name)) {
      throw new ValueProblem(
        `name: expected lower-case letters, digits and . _ - inside, got ${JSON.stringify(name)}`,
      );
    }
    return {
      name,
      host,
      url: url.origin + url.pathname.replace(/\/+$/, ''),
      hostnames: given.hostnames ?? [],
      default: given.default ?? false,
      ...(given.ca === undefined ? {} : { ca: given.ca }),
      auth: given.auth ?? { kind: 'anonymous' },
    };
  },
};
