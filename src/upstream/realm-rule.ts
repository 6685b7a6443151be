import { isIP } from 'node:net';

/**
 * Whether the credentials of an upstream may be sent to the token service at `realm`, which the upstream has named.
 *
 * The realm must be https unless the upstream itself is http, and its host must be that of the upstream or share the
 * registrable domain with it, taken as the last two labels: `auth.docker.io` for `registry-1.docker.io`. IP addresses and
 * names of one label must be equal. Suffixes such as `co.uk` count as a domain here; the rule guards against a registry that
 * is tricked or taken over, and it narrows what that can do.
 */
export function mayReceiveCredentials(realm: URL, upstream: URL): boolean {
  if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && upstream.protocol === 'http:'))
    return false;
  if (realm.hostname === upstream.hostname) return true;
  const domain = domainOf(realm.hostname);
  return domain !== undefined && domain === domainOf(upstream.hostname);
}

function domainOf(hostname: string): string | undefined {
  if (hostname.startsWith('[') || isIP(hostname) !== 0) return undefined;
  const labels = hostname.replace(/\.$/, '').split('.');
  return labels.length < 2 ? undefined : labels.slice(-2).join('.');
}
