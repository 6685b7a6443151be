import { lookup as resolveHost } from 'node:dns';
import { type BlockList, isIP, type LookupFunction } from 'node:net';

import { SpandrelError } from '../core/errors.ts';
import { isLoopback } from '../core/is-loopback.ts';
import { type AddressKind, contains, formsOf, kindOf, kindsOf, parseNetworks } from './address-kind.ts';

export interface AddressRules {
  /** Networks whose addresses may be connected to, whatever they are. */
  readonly allowed?: readonly string[] | undefined;
  /** Hosts that may have private addresses, as the upstream's own name may, and that are trusted as much. */
  readonly storage?: RegExp | undefined;
}

/** Beyond this count every name is taken for a private one. */
const MAX_NAMES = 10_000;

/**
 * Decides which addresses the connections of one upstream may go to. Refused: this machine, its link, and the
 * addresses where clouds keep the credentials of machines, unless the upstream's URL is such an address;
 * private addresses, unless the upstream is private itself. The upstream's own name and its storage may have
 * private addresses.
 */
export class AddressGuard {
  readonly #upstream: string;
  readonly #own: string;
  readonly #allowed: BlockList;
  readonly #storage: RegExp | undefined;
  /** Names that a lookup has found at an address that is not public, or not the storage's to have. */
  readonly #privateNames = new Set<string>();
  /** The upstream's own name has such addresses only. */
  #isPrivate = false;

  constructor(upstream: string, ownHostname: string, { allowed = [], storage }: AddressRules = {}) {
    this.#upstream = upstream;
    this.#own = bare(ownHostname);
    this.#allowed = parseNetworks(allowed);
    this.#storage = storage;
  }

  /**
   * Checks a host that is an address; names are checked when they are looked up.
   * @throws SpandrelError UPSTREAM_PROTOCOL
   */
  checkHost(hostname: string): void {
    if (isIP(bare(hostname)) !== 0) this.#check(bare(hostname), bare(hostname));
  }

  /** Checks a name that an outbound proxy looks up, by the name alone. @throws as {@link checkHost} */
  checkName(hostname: string): void {
    const name = bare(hostname);
    if (name === this.#own || isIP(name) !== 0) return;
    if (isLoopback(name)) this.#check('127.0.0.1', name);
    if (METADATA_NAMES.has(name)) this.#check('169.254.169.254', name);
  }

  /**
   * Lookup of names for connections. They connect to the addresses that it has checked, so a name cannot
   * change in between.
   */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolveHost(hostname, options, (error, resolved, family) => {
      try {
        if (error === null) {
          const addresses = Array.isArray(resolved) ? resolved.map((found) => found.address) : [resolved];
          this.#note(bare(hostname), addresses);
          for (const address of addresses) this.#check(address, bare(hostname));
        }
      } catch (refusal) {
        callback(refusal as Error, []);
        return;
      }
      callback(error, resolved, family);
    });
  };

  /**
   * Whether a host to which a connection was opened has an address that the Internet does not reach; storage
   * has none.
   */
  isPrivate(hostname: string): boolean {
    const name = bare(hostname);
    if (isIP(name) !== 0) return !isPublic(kindsOf(name));
    return isLoopback(name) || this.#privateNames.has(name) || this.#privateNames.size >= MAX_NAMES;
  }

  #note(name: string, addresses: readonly string[]): void {
    const kinds = addresses.map((address) => kindsOf(address));
    const isStorage = this.#storage?.test(name) === true;
    const isTrusted = (kind: AddressKind): boolean => kind === 'public' || (isStorage && kind === 'private');
    const isUnproven = kinds.some((some) => ![...some].every(isTrusted));
    if (isUnproven && this.#privateNames.size < MAX_NAMES) this.#privateNames.add(name);
    if (name === this.#own) this.#isPrivate = !kinds.some(isPublic);
  }

  #check(address: string, name: string): void {
    if (contains(this.#allowed, address)) return;
    for (const form of formsOf(address)) {
      if (contains(this.#allowed, form)) continue;
      const words = this.#refusal(kindOf(form), address, name);
      if (words === undefined) continue;
      throw new SpandrelError(
        'UPSTREAM_PROTOCOL',
        `upstream ${this.#upstream}: ${name} leads to ${words}: see allowAddresses of the upstream`,
      );
    }
  }

  #refusal(kind: AddressKind, address: string, name: string): string | undefined {
    const [own, isOwn] = [this.#own, name === this.#own];
    switch (kind) {
      case 'public':
        return undefined;
      case 'private':
        return isOwn || this.#isInside || this.#storage?.test(name) === true
          ? undefined
          : 'the private network';
      case 'loopback':
        return isLoopback(own) || (isIP(own) !== 0 && kindsOf(own).has('loopback'))
          ? undefined
          : 'this machine';
      case 'machine':
        return address === own ? undefined : 'this machine';
      case 'link':
        return address === own ? undefined : 'a link-local address, or one of its cloud';
    }
  }

  /** The upstream is in a private network, or on this machine. */
  get #isInside(): boolean {
    return (
      this.#isPrivate || isLoopback(this.#own) || (isIP(this.#own) !== 0 && !isPublic(kindsOf(this.#own)))
    );
  }
}

/** Where machines of Google, AWS and Alibaba get their credentials. */
const METADATA_NAMES: ReadonlySet<string> = new Set([
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'instance-data',
  'instance-data.ec2.internal',
]);

function isPublic(kinds: ReadonlySet<AddressKind>): boolean {
  return kinds.size === 1 && kinds.has('public');
}

/** Without the brackets of IPv6 in URLs, and without the trailing dot of a full name. */
function bare(hostname: string): string {
  return hostname
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
    .toLowerCase();
}
