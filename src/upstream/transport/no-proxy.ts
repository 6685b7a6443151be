import { BlockList, isIP } from 'node:net';

interface HostRule {
  /** Without a leading dot; `*` means all. */
  readonly host: string;
  /** Subdomains only, not the name itself. */
  readonly isBelow: boolean;
  readonly port: string | undefined;
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/**
 * The hosts of a `NO_PROXY` variable, separated by commas or spaces: names (with their subdomains), `.names`
 * and `*.names` (subdomains only), addresses, networks like `10.0.0.0/8`, and `*`. All but networks and `*`
 * may have a port. As Go's httpproxy reads it.
 */
export class NoProxy {
  readonly #rules: HostRule[] = [];
  readonly #networks = new BlockList();

  constructor(text: string) {
    for (const entry of text.toLowerCase().split(/[\s,]+/)) {
      if (entry === '') continue;
      if (!this.#addNetwork(entry)) this.#rules.push(parseRule(entry));
    }
  }

  has(url: URL): boolean {
    const host = bare(url.hostname).replace(/\.$/, '');
    const port = url.port === '' ? DEFAULT_PORTS[url.protocol] : url.port;
    const family = isIP(host);
    if (family !== 0 && this.#networks.check(host, family === 4 ? 'ipv4' : 'ipv6')) return true;
    return this.#rules.some((rule) => {
      if (rule.port !== undefined && rule.port !== port) return false;
      if (rule.host === '*' || (!rule.isBelow && rule.host === host)) return true;
      return family === 0 && host.endsWith(`.${rule.host}`);
    });
  }

  #addNetwork(entry: string): boolean {
    const [address = '', bits = '', ...rest] = entry.split('/');
    const family = isIP(address);
    const isNetwork =
      family !== 0 &&
      rest.length === 0 &&
      /^\d{1,3}$/.test(bits) &&
      Number(bits) <= (family === 4 ? 32 : 128);
    if (isNetwork) this.#networks.addSubnet(address, Number(bits), family === 4 ? 'ipv4' : 'ipv6');
    return isNetwork;
  }
}

function parseRule(entry: string): HostRule {
  // An IPv6 address contains colons; with a port it is in brackets.
  const withPort = isIP(entry) === 6 ? null : /^(.+):(\d+)$/.exec(entry);
  const named = bare(withPort?.[1] ?? entry).replace(/\.$/, '');
  const below = /^\*?\.(.+)$/.exec(named);
  return { host: below?.[1] ?? named, isBelow: below !== null, port: withPort?.[2] };
}

/** Removes the brackets of an IPv6 address. */
function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}
