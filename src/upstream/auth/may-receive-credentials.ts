import { getDomain } from 'tldts';

/**
 * Domains whose subdomains belong to different customers, and which the public suffix list lacks: only an
 * equal host counts.
 */
const SHARED_DOMAINS: ReadonlySet<string> = new Set([
  'amazonaws.com',
  'amazonaws.com.cn',
  'amazonaws.eu',
  'amazonwebservices.com.cn',
  'api.aws',
  'on.aws',
  'ecr.aws',
  'azurecr.io',
  'windows.net',
  'cloudapp.com',
  'pkg.dev',
  'googleusercontent.com',
  'jfrog.io',
  'tencentcloudcr.com',
  'appdomain.cloud',
  'ovh.net',
  // Services of all namespaces of a Kubernetes cluster.
  'cluster.local',
]);

/**
 * Whether the credentials of an upstream may be sent to the token service at `realm`, which the upstream has
 * named.
 *
 * The realm must be https unless the upstream itself is http, and its host must be that of the upstream or
 * share the registrable domain with it, by the public suffix list with its private part: `auth.docker.io` for
 * `registry-1.docker.io`. IP addresses, names of one label, and names below domains that many share must be
 * equal. The rule guards against a registry that is tricked or taken over, and it narrows what that can do.
 * `tokenHosts` are hosts, with a port if it is not the usual one, that the operator trusts besides.
 */
export function mayReceiveCredentials(realm: URL, upstream: URL, tokenHosts: readonly string[]): boolean {
  if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && upstream.protocol === 'http:'))
    return false;
  if (realm.hostname === upstream.hostname || tokenHosts.includes(realm.host)) return true;
  const domain = domainOf(realm.hostname);
  return domain !== undefined && domain === domainOf(upstream.hostname);
}

function domainOf(hostname: string): string | undefined {
  const domain = getDomain(hostname, { allowPrivateDomains: true }) ?? undefined;
  return domain !== undefined && SHARED_DOMAINS.has(domain) ? undefined : domain;
}
