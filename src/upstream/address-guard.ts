import { lookup as resolveHost } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

import { SpandrelError } from '../core/errors.ts';

/**
 * Keeps the connections of one upstream away from addresses that no registry leads to with good intent: this machine, and where clouds
 * keep the credentials of machines. The upstream itself may have such an address, and may then lead to others of that kind.
 * Private networks are allowed: registries and their storage live there.
 */
export class AddressGuard {
  readonly #upstream: string;
  readonly #ownHostname: string;
  readonly #forbidden: readonly BlockList[];

  constructor(upstream: string, ownHostname: string) {
    this.#upstream = upstream;
    this.#ownHostname = ownHostname;
    const own = isLoopbackName(ownHostname) ? '127.0.0.1' : bare(ownHostname);
    this.#forbidden = [loopback(), metadata()].filter((networks) => !contains(networks, own));
  }

  /** For hosts that are addresses; names are checked when they are looked up. @throws SpandrelError UPSTREAM_PROTOCOL */
  checkHost(hostname: string): void {
    if (isIP(bare(hostname)) !== 0) this.#check(bare(hostname));
  }

  /** For hosts that a proxy looks up: what is known of a name without asking for its addresses. @throws as {@link checkHost} */
  checkName(hostname: string): void {
    const name = hostname.toLowerCase().replace(/\.$/, '');
    if (name === this.#ownHostname) return;
    if (isLoopbackName(name)) this.#check('127.0.0.1');
    if (METADATA_NAMES.has(name)) this.#check('169.254.169.254');
  }

  /** A name lookup for connections: what it lets through is what is connected to, so a name cannot change in between. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolveHost(hostname, options, (error, resolved, family) => {
      try {
        if (error === null && hostname !== this.#ownHostname) {
          for (const address of Array.isArray(resolved) ? resolved.map((found) => found.address) : [resolved])
            this.#check(address);
        }
      } catch (refusal) {
        callback(refusal as Error, []);
        return;
      }
      callback(error, resolved, family);
    });
  };

  #check(address: string): void {
    if (!this.#forbidden.some((networks) => contains(networks, address))) return;
    const words = `upstream ${this.#upstream}: leads to an address of this machine or its cloud's credentials`;
    throw new SpandrelError('UPSTREAM_PROTOCOL', words);
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

/** Without the brackets of IPv6 in URLs. */
function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

function isLoopbackName(hostname: string): boolean {
  return hostname === 'localhost' || hostname.endsWith('.localhost');
}

function contains(networks: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && networks.check(address, version === 4 ? 'ipv4' : 'ipv6');
}

/** Addresses that reach this machine. `BlockList` takes IPv4-mapped IPv6 addresses for what they stand for. */
function loopback(): BlockList {
  const networks = new BlockList();
  networks.addSubnet('127.0.0.0', 8, 'ipv4');
  networks.addSubnet('0.0.0.0', 8, 'ipv4');
  networks.addSubnet('::', 127, 'ipv6');
  return networks;
}

function metadata(): BlockList {
  const networks = new BlockList();
  // Link-local: AWS, Azure, Google and others; credentials of ECS tasks and EKS pods.
  networks.addSubnet('169.254.0.0', 16, 'ipv4');
  networks.addSubnet('fe80::', 10, 'ipv6');
  // The same of AWS and Google over IPv6.
  networks.addSubnet('fd00:ec2::', 32, 'ipv6');
  networks.addSubnet('fd20:ce::', 32, 'ipv6');
  // The same of Alibaba, Oracle and Azure.
  networks.addAddress('100.100.100.200', 'ipv4');
  networks.addAddress('192.0.0.192', 'ipv4');
  networks.addAddress('168.63.129.16', 'ipv4');
  // All of them behind NAT64 (RFC 6052), whose addresses end with the one of IPv4.
  networks.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6');
  networks.addAddress('64:ff9b::6464:64c8', 'ipv6');
  networks.addAddress('64:ff9b::c000:c0', 'ipv6');
  networks.addAddress('64:ff9b::a83f:8110', 'ipv6');
  return networks;
}
