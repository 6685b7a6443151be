import type { IncomingHttpHeaders } from 'node:http';
import type { BlockList } from 'node:net';

import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import type { RateLimiter } from './rate-limiter.ts';
import type { AccessCheck, AccessRequest } from './access-check.ts';
import type { AdmittedPeer, PeerAccess } from './peer-access.ts';
import type { PageGuard, PageRequest } from './page-guard.ts';

/** The rules for a request. A missing rule admits everybody. */
export interface AccessRules {
  /** Addresses that are admitted. */
  readonly networks?: BlockList;
  /** Bounds the requests of one address. */
  readonly rateLimiter?: RateLimiter;
  /** Which client may read which repository. */
  readonly check?: AccessCheck;
  /** For listeners that may admit clients of this machine without credentials. */
  readonly pages?: PageGuard;
}

/** Checks every request of the registry listener. A reload replaces its rules. */
export class AccessGate {
  #rules: AccessRules;
  readonly #peers: PeerAccess | undefined;

  /** @param peers admits other replicas; a reload does not change it */
  constructor(rules: AccessRules, peers?: PeerAccess) {
    this.#rules = rules;
    this.#peers = peers;
  }

  replace(rules: AccessRules): void {
    this.#rules = rules;
  }

  /** As {@link PeerAccess.admit}. */
  admitPeer(method: string, url: string, headers: IncomingHttpHeaders): AdmittedPeer | undefined {
    return this.#peers?.admit(method, url, headers);
  }

  /** Count a request of this address. @throws SpandrelError DENIED, OVERLOADED */
  admitAddress(address: string): void {
    const { networks, rateLimiter } = this.#rules;
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    if (networks !== undefined && !networks.check(address, family))
      throw new SpandrelError('DENIED', 'this address is in no network of access.cidrs');
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
