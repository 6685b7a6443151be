import type { IncomingHttpHeaders } from 'node:http';
import { isIPv6 } from 'node:net';

import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/loopback.ts';
import { isHost } from '../request-target.ts';

/** A header that no page can send to another origin without that origin's leave, which is never given. */
export const REQUEST_HEADER = 'x-spandrel-request';

/** Of {@link IncomingHttpHeaders}, what browsers say of a request. */
export interface PageRequest {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  /** What the client believes to talk to, its port included. */
  readonly host: string | undefined;
}

/** By which a listener may be addressed, besides loopback. */
export interface ListenerNames {
  /** The address that it was given. */
  readonly host: string;
  /** As `URL.host` has them; without a port all ports are meant. */
  readonly hosts?: readonly string[] | undefined;
}

/**
 * Keeps the pages that a browser on this machine shows away from a listener that asks for no credentials. A page may send requests to
 * loopback, and may even read the answers if its own name is led there (DNS rebinding); such a request has that name in `Host`.
 */
export class PageGuard {
  readonly #address: string;
  readonly #hosts: ReadonlySet<string>;

  constructor({ host, hosts = [] }: ListenerNames) {
    this.#address = isIPv6(host) ? `[${host}]` : host;
    this.#hosts = new Set(hosts);
  }

  /** @throws SpandrelError DENIED for a Host that is not one of the listener's, or a request of another origin */
  admit({ headers, host }: PageRequest): void {
    const { origin, 'sec-fetch-site': site } = headers;
    if (host !== undefined && !this.#isOwn(host))
      throw new SpandrelError(
        'DENIED',
        'this name is not one of the listener: see `hosts` of its configuration',
      );
    if (origin === undefined ? site !== undefined && !OWN_SITES.has(site) : !this.#isFrom(origin, host))
      throw new SpandrelError('DENIED', 'a page of another origin may not ask here');
  }

  /** As {@link admit}, for requests that a browser has marked as its own; of others the Host may be anything. */
  admitMarked(request: PageRequest): void {
    const { origin, 'sec-fetch-site': site, 'user-agent': agent = '' } = request.headers;
    // Browsers say nothing but their names to http origins other than loopback.
    if (origin !== undefined || site !== undefined || agent.startsWith('Mozilla/')) this.admit(request);
  }

  #isOwn(host: string): boolean {
    const url = isHost(host) ? parseOrigin(`http://${host}`) : undefined;
    if (url === undefined) return false;
    return isLoopback(url.hostname) || url.hostname === this.#address || this.#isNamed(url);
  }

  /** Other ports of this machine are other programs', perhaps other users'. */
  #isFrom(origin: string, host: string | undefined): boolean {
    const url = parseOrigin(origin);
    if (url === undefined) return false;
    return url.host === parseOrigin(`${url.protocol}//${host ?? ''}`)?.host || this.#isNamed(url);
  }

  #isNamed({ host, hostname }: URL): boolean {
    return this.#hosts.has(host) || this.#hosts.has(hostname);
  }
}

/** What browsers say of a request that a page of the same origin makes, or the user. */
const OWN_SITES: ReadonlySet<unknown> = new Set(['same-origin', 'none']);

/**
 * Whether a request may change something though it shows no token: pages can make browsers send forms to any place, with the client's
 * certificate or from its machine, but only with the methods and types of forms.
 * @see https://fetch.spec.whatwg.org/#cors-safelisted-request-header
 */
export function isNoForm({ method, headers }: Pick<PageRequest, 'method' | 'headers'>): boolean {
  const isJson = /^application\/json\s*(;|$)/i.test(headers['content-type'] ?? '');
  return method !== 'POST' || isJson || headers[REQUEST_HEADER] !== undefined;
}

function parseOrigin(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}
