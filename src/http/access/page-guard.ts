import type { IncomingHttpHeaders } from 'node:http';
import { isIPv6 } from 'node:net';

import { isBrowser } from '../../core/client-quirks.ts';
import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { isHost } from '../requests/request-target.ts';

/**
 * A page can send this header to another origin only if that origin allows it (CORS); the proxy never does.
 */
export const REQUEST_HEADER = 'x-spandrel-request';

/** The parts of a request that tell which page sent it. */
export interface PageRequest {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  /** Host that the client addresses, with its port. */
  readonly host: string | undefined;
}

/** Names of a listener, besides the loopback names. */
export interface ListenerNames {
  /** The address or name that it listens on. */
  readonly host: string;
  /** In the form of `URL.host`; a name without a port matches every port. */
  readonly hosts?: readonly string[] | undefined;
}

/** Addresses that mean all addresses of a machine, and are no names. */
const WILDCARDS: ReadonlySet<string | undefined> = new Set(['0.0.0.0', '[::]']);

/**
 * Protects a listener that asks for no credentials from web pages in a browser on this machine. A page can
 * send requests to loopback. It can read the responses too if its own name resolves to loopback (DNS
 * rebinding); such a request has that name in `Host`.
 */
export class PageGuard {
  readonly #address: string | undefined;
  readonly #hosts: ReadonlySet<string>;

  constructor({ host, hosts = [] }: ListenerNames) {
    const address = parseOrigin(`http://${isIPv6(host) ? `[${host}]` : host}`)?.hostname;
    this.#address = WILDCARDS.has(address) ? undefined : address;
    this.#hosts = new Set(hosts);
  }

  /** @throws SpandrelError DENIED for a Host that is no name of the listener, or a page of another origin */
  admit({ headers, host }: PageRequest): void {
    const { origin, 'sec-fetch-site': site } = headers;
    if (host !== undefined && !this.#isOwn(host))
      throw new SpandrelError(
        'DENIED',
        'this Host is no name of the listener: see `hosts` of its configuration',
      );
    const isForeign = origin !== undefined && !this.#isFrom(origin, host);
    if (isForeign || (site !== undefined && !OWN_SITES.has(site)))
      throw new SpandrelError('DENIED', 'pages of other origins may not ask here');
  }

  /** As {@link admit}, for requests that show signs of a browser; others may have any Host. */
  admitMarked(request: PageRequest): void {
    const { origin, 'sec-fetch-site': site, 'user-agent': agent } = request.headers;
    // To http origins other than loopback browsers send no `Sec-Fetch-Site`, and no `Origin` with a GET of
    // the same origin.
    if (origin !== undefined || site !== undefined || isBrowser(agent)) this.admit(request);
  }

  #isOwn(host: string): boolean {
    const url = isHost(host) ? parseOrigin(`http://${host}`) : undefined;
    if (url === undefined) return false;
    return isLoopback(url.hostname) || url.hostname === this.#address || this.#isNamed(url);
  }

  /** The port must match too: other programs of this machine may belong to other users. */
  #isFrom(origin: string, host: string | undefined): boolean {
    const url = parseOrigin(origin);
    if (url === undefined) return false;
    return url.host === parseOrigin(`${url.protocol}//${host ?? ''}`)?.host || this.#isNamed(url);
  }

  #isNamed({ host, hostname }: URL): boolean {
    return this.#hosts.has(host) || this.#hosts.has(hostname);
  }
}

/** `Sec-Fetch-Site` of requests by pages of the same origin, and by the user. */
const OWN_SITES: ReadonlySet<unknown> = new Set(['same-origin', 'none']);

/**
 * Whether no page of another origin can have sent the request without asking (CORS). Pages can make a browser
 * send forms to any host, with the client certificate of its user, but only with the methods and content
 * types of forms. They can also send bodies without a type; browsers add `Origin` to those.
 * @see https://fetch.spec.whatwg.org/#cors-safelisted-request-header
 */
export function isNoForm({ method, headers }: Pick<PageRequest, 'method' | 'headers'>): boolean {
  if (method !== 'POST' || headers[REQUEST_HEADER] !== undefined) return true;
  const { 'content-type': type, origin, 'sec-fetch-site': site } = headers;
  if (type === undefined) return origin === undefined && site === undefined;
  return /^application\/json\s*(;|$)/i.test(type);
}

function parseOrigin(text: string): URL | undefined {
  return /^https?:/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
}
