import { parseEcrHost } from '../core/ecr-host.ts';
import { type OutboundProxy, outboundProxy } from './outbound-proxy.ts';
import { type RequestRates, requestRates } from './request-rates.ts';
import {
  cidr,
  filePath,
  flag,
  hostAndPort,
  list,
  record,
  repositoryPath,
  secretFile,
  text,
  type ValueKind,
  ValueProblem,
} from './value-kinds.ts';
import { type UpstreamAuth, upstreamAuth } from './upstream-auth.ts';

/** One registry behind the proxy. */
export interface UpstreamConfig {
  /** First path segment that selects this upstream; also its label in metrics and logs. */
  readonly name: string;
  /** The registry's own name, as in image references and `?ns=`. */
  readonly host: string;
  /** Base URL: scheme, host, port, and the path before `/v2/` if there is one. No trailing slash. */
  readonly url: string;
  /** Values of the Host header that select this upstream. */
  readonly hostnames: readonly string[];
  readonly default: boolean;
  /** PEM file of a private certificate authority. */
  readonly ca?: string;
  /** PEM files of a client certificate and its private key, sent to the upstream itself only. */
  readonly cert?: string;
  readonly key?: string;
  /** For all requests of this upstream. */
  readonly proxy?: OutboundProxy;
  /** Token services outside the upstream's own domain that may receive its credentials. */
  readonly tokenHosts?: readonly string[];
  /** Networks that the upstream may lead to although they are private, link-local or on this machine. */
  readonly allowAddresses?: readonly string[];
  /**
   * Prefix of its repositories that clients leave out, such as a proxy project or a pull-through rule. No
   * slash at either end.
   */
  readonly repositoryPrefix?: string;
  readonly auth: UpstreamAuth;
  readonly requestsPerSecond?: RequestRates;
}

const rawUpstream = record<Partial<UpstreamConfig>>({
  name: {
    kind: text,
    optional: true,
    about:
      'first path segment that selects this upstream, and its label in metrics and logs; the default ' +
      'is `host`',
  },
  host: {
    kind: text,
    optional: true,
    about: "the registry's own name, as in image references and `?ns=`; the default is the host of `url`",
  },
  url: {
    kind: text,
    optional: true,
    about: 'where the proxy reaches it: scheme, host, port, and the path before `/v2/` if there is one',
  },
  hostnames: {
    kind: list(text),
    optional: true,
    about: 'values of the Host header that select this upstream',
  },
  default: {
    kind: flag,
    optional: true,
    about: 'whether requests that name no upstream go here; one upstream at most has `true`',
  },
  ca: { kind: filePath, optional: true, about: 'PEM file of a private certificate authority' },
  cert: { kind: filePath, optional: true, about: 'PEM file of a client certificate' },
  key: { kind: secretFile, optional: true, about: 'PEM file of its private key' },
  proxy: {
    kind: outboundProxy,
    optional: true,
    about:
      'outbound HTTP proxy for all requests of this upstream; the default is what `HTTPS_PROXY`, ' +
      '`HTTP_PROXY` and `NO_PROXY` say',
  },
  tokenHosts: {
    kind: list(hostAndPort),
    optional: true,
    about: 'token services of other domains that may receive the credentials',
  },
  allowAddresses: {
    kind: list(cidr),
    optional: true,
    about:
      'networks that the upstream may lead to although they are private, link-local or on this ' +
      'machine, such as `10.1.0.0/16`',
  },
  repositoryPrefix: {
    kind: repositoryPath,
    optional: true,
    about:
      'prefix of its repositories that clients leave out: a proxy project of Harbor, a pull-through ' +
      'rule of ECR, a remote repository of Google',
  },
  auth: { kind: upstreamAuth, optional: true, about: 'credentials of the proxy; the default is none' },
  requestsPerSecond: {
    kind: requestRates,
    optional: true,
    about:
      'most requests per second by kind; requests above that wait (`spandrel_upstream_requests_waiting`)',
  },
});

/** An upstream needs `url` or `host`. A missing `url`, `host` or `name` is derived from the others. */
export const upstream: ValueKind<UpstreamConfig> = {
  expects: rawUpstream.expects,
  schema: {
    ...rawUpstream.schema,
    anyOf: [{ required: ['url'] }, { required: ['host'] }],
    dependencies: { cert: ['key'], key: ['cert'] },
  },
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
      throw new ValueProblem('url: credentials belong in auth, not in the url');
    }
    if (/\/v2\/*$/.test(url.pathname))
      throw new ValueProblem('url: leave out /v2/; what follows it belongs in repositoryPrefix');
    const host = given.host ?? url.host;
    const name = given.name ?? host;
    if (!/^[a-z0-9]+([._:-]+[a-z0-9]+)*$/.test(name)) {
      throw new ValueProblem(
        `name: expected lower-case letters, digits and . _ - inside, got ${JSON.stringify(name)}`,
      );
    }
    const auth = given.auth ?? { kind: 'anonymous' };
    if (!isRegionKnown(auth, url.host, host))
      throw new ValueProblem(`auth: kind ecr needs a region: ${host} does not contain one`);
    if ((given.cert === undefined) !== (given.key === undefined))
      throw new ValueProblem('cert and key need each other');
    return {
      name,
      host,
      url: url.origin + url.pathname.replace(/\/+$/, ''),
      hostnames: given.hostnames ?? [],
      default: given.default ?? false,
      ...(given.ca === undefined ? {} : { ca: given.ca }),
      ...(given.cert === undefined ? {} : { cert: given.cert }),
      ...(given.key === undefined ? {} : { key: given.key }),
      ...(given.proxy === undefined ? {} : { proxy: given.proxy }),
      ...(given.tokenHosts === undefined ? {} : { tokenHosts: given.tokenHosts }),
      ...(given.allowAddresses === undefined ? {} : { allowAddresses: given.allowAddresses }),
      ...(given.repositoryPrefix === undefined ? {} : { repositoryPrefix: given.repositoryPrefix }),
      auth,
      ...(given.requestsPerSecond === undefined ? {} : { requestsPerSecond: given.requestsPerSecond }),
    };
  },
};

/** The host name of an ECR registry contains its region; an alias does not. */
function isRegionKnown(auth: UpstreamAuth, ...hosts: readonly string[]): boolean {
  return (
    auth.kind !== 'ecr' || auth.region !== undefined || hosts.some((host) => parseEcrHost(host) !== undefined)
  );
}
