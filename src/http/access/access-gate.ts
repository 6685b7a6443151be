import type { BlockList } from 'node:net';

import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import type { RateLimiter } from './rate-limiter.ts';
import type { AccessCheck, AccessRequest } from './access-check.ts';
import type { PageGuard, PageRequest } from './page-guard.ts';

/** What a request has to pass; what is not given stops nobody. */
export interface AccessRules {
  /** Who may connect. */
  readonly networks?: BlockList;
  /** Bounds what one address may ask. */
  readonly rateLimiter?: RateLimiter;
  /** Who may read what. */
  readonly check?: AccessCheck;
  /** Where clients may come without credentials: for those on this machine. */
  readonly pages?: PageGuard;
}

/** The one way in for the requests of the registry listener. Its rules can be exchanged while it is in use. */
export class AccessGate {
  #rules: AccessRules;

  constructor(rules: AccessRules) {
    this.#rules = rules;
  }

  replace(rules: AccessRules): void {
    this.#rules = rules;
  }

  /** Count a request of this address. @throws SpandrelError DENIED, OVERLOADED */
  admitAddress(address: string): void {
    const { networks, rateLimiter } = this.#rules;
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    if (networks !== undefined && !networks.check(address, family))
      throw new SpandrelError('DENIED', 'this address may not read here');
    rateLimiter?.admit(address);
  }

  /**
   * Refuse web pages in a browser on this machine. Reverse proxies pass on the Host by which they are
   * reached, so only requests that show signs of a browser are checked.
   * @throws SpandrelError DENIED
   */
  admitPage(request: PageRequest, address: string): void {
    if (isLoopback(address)) this.#rules.pages?.admitMarked(request);
  }

  /** As {@link AccessCheck.check}. */
  async check(request: AccessRequest): Promise<RegistryResponse | undefined> {
    return this.#rules.check?.check(request);
  }
}
