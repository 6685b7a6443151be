import { getDomain } from 'tldts';

/**
 * Domains whose subdomains belong to different customers and that the public suffix list lacks: here only an
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
  // Services in all namespaces of a Kubernetes cluster.
  'cluster.local',
]);

/**
 * Whether the credentials of an upstream may be sent to the token service at `realm`, which the upstream
 * names.
 *
 * The realm must be https unless the upstream is http. Its host must be that of the upstream or share its
 * registrable domain by the public suffix list, private part included: `auth.docker.io` for
 * `registry-1.docker.io`. IP addresses, names of one label, and names in shared domains must be equal. The
 * rule limits what a compromised registry can do.
 * @param tokenHosts other hosts that the operator trusts, with a port unless it is the default one
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
