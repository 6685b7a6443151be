import { isIP } from 'node:net';

/** Domains below which strangers get names of their own: there only the same host counts. */
const SHARED_DOMAINS: ReadonlySet<string> = new Set([
  'amazonaws.com',
  'amazonaws.com.cn',
  'amazonaws.eu',
  'amazonwebservices.com.cn',
  'api.aws',
  'on.aws',
  'ecr.aws',
  'cloudfront.net',
  'azurecr.io',
  'azurewebsites.net',
  'azureedge.net',
  'azurefd.net',
  'windows.net',
  'cloudapp.com',
  'pkg.dev',
  'run.app',
  'web.app',
  'appspot.com',
  'googleapis.com',
  'googleusercontent.com',
  'cloudfunctions.net',
  'github.io',
  'gitlab.io',
  'workers.dev',
  'pages.dev',
  'r2.dev',
  'herokuapp.com',
  'fly.dev',
  'vercel.app',
  'netlify.app',
  'ngrok.io',
  'ngrok.app',
]);

/** Before a country: `co.uk`, `com.cn`. */
const COUNTRY_SUFFIX = /^(co|com|net|org|gov|gob|edu|ac|or|ne|go|ltd|plc)$/;

/**
 * Whether the credentials of an upstream may be sent to the token service at `realm`, which the upstream has named.
 *
 * The realm must be https unless the upstream itself is http, and its host must be that of the upstream or share the
 * registrable domain with it, taken as the last two labels, or three below suffixes such as `co.uk`: `auth.docker.io` for
 * `registry-1.docker.io`. IP addresses, names of one label, and names below domains that many share must be equal. The rule
 * guards against a registry that is tricked or taken over, and it narrows what that can do. `tokenHosts` are hosts, with a port if it is
 * not the usual one, that the operator trusts besides.
 */
export function mayReceiveCredentials(realm: URL, upstream: URL, tokenHosts: readonly string[]): boolean {
  if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && upstream.protocol === 'http:'))
    return false;
  if (realm.hostname === upstream.hostname || tokenHosts.includes(realm.host)) return true;
  const domain = domainOf(realm.hostname);
  return domain !== undefined && domain === domainOf(upstream.hostname);
}

function domainOf(hostname: string): string | undefined {
  if (hostname.startsWith('[') || isIP(hostname) !== 0) return undefined;
  const labels = hostname.replace(/\.$/, '').split('.');
  const [last = '', second = ''] = labels.toReversed();
  const isCountrySuffix = last.length === 2 && COUNTRY_SUFFIX.test(second);
  const domain = labels.slice(isCountrySuffix ? -3 : -2).join('.');
  return labels.length < (isCountrySuffix ? 3 : 2) || SHARED_DOMAINS.has(domain) ? undefined : domain;
}
