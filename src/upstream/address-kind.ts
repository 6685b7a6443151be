import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

import { SpandrelError } from '../core/errors.ts';

/**
 * What an address leads to. `machine`: an address of an interface of this machine. `link`: link-local
 * addresses, metadata services of clouds, multicast.
 */
export type AddressKind = 'loopback' | 'machine' | 'link' | 'private' | 'public';

/**
 * The kind of an address, and the kinds of the IPv4 addresses embedded in it (NAT64, SIIT, 6to4, Teredo).
 * @throws SpandrelError UPSTREAM_UNREACHABLE if the addresses of this machine have never been read
 * successfully
 */
export function kindsOf(address: string): ReadonlySet<AddressKind> {
  return new Set(formsOf(address).map(kindOf));
}

/** The address and the IPv4 addresses embedded in it. */
export function formsOf(address: string): readonly string[] {
  const groups = groupsOf(address);
  if (groups === undefined) return [address];
  const [first = 0, second = 0, third = 0, fourth = 0, fifth = 0, sixth = 0, seventh = 0, eighth = 0] =
    groups;
  const embedded: string[] = [];
  const add = (high: number, low: number): void => {
    embedded.push([high >> 8, high & 255, low >> 8, low & 255].join('.'));
  };
  if (first === 0x64 && second === 0xff9b) {
    add(seventh, eighth);
    // With shorter prefixes the IPv4 address is further left: RFC 6052, section 2.2; RFC 8215.
    const octets = groups.flatMap((group) => [group >> 8, group & 255]).filter((_, place) => place !== 8);
    if (third === 1)
      for (const start of [6, 7, 8])
        if (octets[start] !== 0) embedded.push(octets.slice(start, start + 4).join('.'));
  }
  // 6to4: RFC 3056. Teredo: RFC 4380, section 4. ISATAP: RFC 5214, section 6.1. IPv4-mapped and -compatible:
  // RFC 4291, section 2.5.5. IPv4-translated: RFC 2765, section 2.1.
  if (first === 0x2002) add(second, third);
  if (first === 0x2001 && second === 0) {
    add(third, fourth);
    add(seventh ^ 0xffff, eighth ^ 0xffff);
  }
  if ((fifth & ~0x200) === 0 && sixth === 0x5efe) add(seventh, eighth);
  const isShort = [first, second, third, fourth].every((group) => group === 0);
  const isMapped = fifth === 0 && sixth === 0xffff;
  const isTranslated = fifth === 0xffff && sixth === 0;
  const isCompatible = fifth === 0 && sixth === 0 && seventh !== 0;
  if (isShort && (isMapped || isTranslated || isCompatible)) add(seventh, eighth);
  return [address, ...embedded];
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): readonly number[] | undefined {
  if (isIP(address) !== 6) return undefined;
  // The URL parser normalizes every spelling, including a dotted IPv4 part.
  const bare = new URL(`http://[${withoutZone(address)}]/`).hostname.slice(1, -1);
  const [head = '', tail] = bare.split('::');
  const parse = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const [before, after] = [parse(head), parse(tail ?? '')];
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
}

/**
 * The kind of an address, without embedded ones. Reads the interfaces of this machine each time, because they
 * change.
 */
export function kindOf(address: string): AddressKind {
  if (contains(LOOPBACK, address)) return 'loopback';
  if (isOfThisMachine(address)) return 'machine';
  if (contains(LINK, address)) return 'link';
  return contains(PRIVATE, address) ? 'private' : 'public';
}

function isOfThisMachine(address: string): boolean {
  return ownAddresses().has(withoutZone(address));
}

let lastOwnAddresses: ReadonlySet<string> | undefined;

/**
 * Addresses of this machine; the last known ones while the system is out of file descriptors. @throws
 * SpandrelError UPSTREAM_UNREACHABLE
 */
function ownAddresses(): ReadonlySet<string> {
  try {
    const interfaces = Object.values(networkInterfaces()).flat();
    lastOwnAddresses = new Set(interfaces.flatMap((found) => (found === undefined ? [] : [found.address])));
  } catch (cause) {
    if (lastOwnAddresses === undefined)
      throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the addresses of this machine cannot be read', {
        cause,
      });
  }
  return lastOwnAddresses;
}

/**
 * Whether a network contains `address`. `BlockList` matches IPv4-mapped IPv6 addresses too, and rejects
 * zones.
 */
export function contains(networks: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && networks.check(withoutZone(address), version === 4 ? 'ipv4' : 'ipv6');
}

/** `fe80::1` of `fe80::1%eth0`: RFC 4007, section 11. */
function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}

/** Parses networks in CIDR notation. */
export function parseNetworks(cidrs: readonly string[]): BlockList {
  const networks = new BlockList();
  for (const cidr of cidrs) {
    const [address = '', prefix = ''] = cidr.split('/');
    networks.addSubnet(address, Number(prefix), isIP(address) === 4 ? 'ipv4' : 'ipv6');
  }
  return networks;
}

const LOOPBACK = parseNetworks(['127.0.0.0/8', '0.0.0.0/8', '::/127']);

/** From IANA's registries of special-purpose addresses, and the metadata services of clouds. */
const LINK = parseNetworks([
  // Link-local: metadata of AWS, Azure, Google and others; credentials of ECS tasks and EKS pods.
  '169.254.0.0/16',
  'fe80::/10',
  // Metadata of AWS and Google over IPv6.
  'fd00:ec2::/32',
  'fd20:ce::/32',
  // Metadata of Alibaba, Oracle and Azure.
  '100.100.100.200/32',
  '192.0.0.192/32',
  '168.63.129.16/32',
  // Multicast and broadcast.
  '224.0.0.0/4',
  '255.255.255.255/32',
  'ff00::/8',
]);

const PRIVATE = parseNetworks([
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  'fc00::/7',
  'fec0::/10',
  // Carrier-grade NAT, which clouds use for their networks too: RFC 6598.
  '100.64.0.0/10',
  // Not routed on the Internet: RFC 6890, RFC 2544, RFC 1112. Some clouds use the last one internally.
  '192.0.0.0/24',
  '198.18.0.0/15',
  '240.0.0.0/4',
]);
