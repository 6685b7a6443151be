import { lookup as resolveHost } from 'node:dns';
import { type BlockList, isIP, type LookupFunction } from 'node:net';

import { SpandrelError } from '../core/errors.ts';
import { isLoopback } from '../core/is-loopback.ts';
import { type AddressKind, contains, formsOf, kindOf, kindsOf, parseNetworks } from './address-kind.ts';

export interface AddressRules {
  /** Networks that may be connected to, whatever their kind. */
  readonly allowed?: readonly string[] | undefined;
  /** Hosts that may have private addresses and are trusted as much as the upstream itself. */
  readonly storage?: RegExp | undefined;
}

/** Beyond this number, every name counts as private. */
const MAX_NAMES = 10_000;

/**
 * Decides which addresses an upstream may lead the proxy to. Refused are this machine, link-local addresses
 * and the metadata services of clouds, unless the URL of the upstream is such an address; and private
 * addresses, unless the upstream itself is private. The upstream's own host and its storage may have private
 * addresses.
 */
export class AddressGuard {
  readonly #upstream: string;
  readonly #own: string;
  readonly #allowed: BlockList;
  readonly #storage: RegExp | undefined;
  /** Names that resolved to an address that is not public, or that their storage may not have. */
  readonly #privateNames = new Set<string>();
  /** The upstream's own host name resolves to non-public addresses only. */
  #isPrivate = false;

  constructor(upstream: string, ownHostname: string, { allowed = [], storage }: AddressRules = {}) {
    this.#upstream = upstream;
    this.#own = bare(ownHostname);
    this.#allowed = parseNetworks(allowed);
    this.#storage = storage;
  }

  /**
   * Checks a host that is an address. Names are checked when they are resolved.
   * @throws SpandrelError UPSTREAM_PROTOCOL
   */
  checkHost(hostname: string): void {
    if (isIP(bare(hostname)) !== 0) this.#check(bare(hostname), bare(hostname));
  }

  /** Checks, by the name alone, a host that an outbound proxy will resolve. @throws as {@link checkHost} */
  checkName(hostname: string): void {
    const name = bare(hostname);
    if (name === this.#own || isIP(name) !== 0) return;
    if (isLoopback(name)) this.#check('127.0.0.1', name);
    if (METADATA_NAMES.has(name)) this.#check('169.254.169.254', name);
  }

  /**
   * Resolves and checks names for connections. The connection uses the checked addresses, so a name cannot
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
   * Whether a host that was connected to has an address that is not public; the private addresses of storage
   * do not count.
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

  /** The upstream is in a private network or on this machine. */
  get #isInside(): boolean {
    return (
      this.#isPrivate || isLoopback(this.#own) || (isIP(this.#own) !== 0 && !isPublic(kindsOf(this.#own)))
    );
  }
}

/** Names of the metadata services of Google, AWS and Alibaba. */
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

/** Removes the brackets of an IPv6 address and the trailing dot of a fully qualified name. */
function bare(hostname: string): string {
  return hostname
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
    .toLowerCase();
}
