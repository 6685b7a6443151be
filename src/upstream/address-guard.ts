import { lookup as resolveHost } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/**
 * True for an IP address that no registry redirects to with good intent: link-local ones, where clouds keep the credentials
 * of the machine (169.254.169.254, fd00:ec2::254). Names are not resolved: see {@link guardedLookup}.
 */
export function isMetadataAddress(hostname: string): boolean {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  const version = isIP(address);
  return version !== 0 && metadataNetworks().check(address, version === 4 ? 'ipv4' : 'ipv6');
}

/** A name lookup for connections that fails if a name, other than that of the upstream itself, leads to such an address. */
export function guardedLookup(trustedHostname: string): LookupFunction {
  return (hostname, options, callback) => {
    resolveHost(hostname, options, (error, resolved, family) => {
      const addresses = Array.isArray(resolved) ? resolved.map(({ address }) => address) : [resolved];
      if (
        error === null &&
        hostname !== trustedHostname &&
        addresses.some((address) => isMetadataAddress(address))
      ) {
        callback(new Error('the name leads to a link-local address'), []);
      } else {
        callback(error, resolved, family);
      }
    });
  };
}

function metadataNetworks(): BlockList {
  const networks = new BlockList();
  networks.addSubnet('169.254.0.0', 16, 'ipv4');
  networks.addSubnet('fe80::', 10, 'ipv6');
  networks.addAddress('fd00:ec2::254', 'ipv6');
  return networks;
}
