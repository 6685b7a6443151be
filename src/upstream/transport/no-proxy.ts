import { BlockList, isIP } from 'node:net';

interface HostRule {
  /** Without a leading dot; `*` for all. */
  readonly host: string;
  /** Names below only, not the name itself. */
  readonly isBelow: boolean;
  readonly port: string | undefined;
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/**
 * What a `NO_PROXY` lists: names (which mean those below too), `.names` and `*.names` (those below only), addresses, networks like
 * `10.0.0.0/8`, each but the last with a port if wanted, and `*`. Separated by commas or spaces. As Go's httpproxy reads it.
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
  // An IPv6 address has colons of its own; with a port it stands in brackets.
  const withPort = isIP(entry) === 6 ? null : /^(.+):(\d+)$/.exec(entry);
  const named = bare(withPort?.[1] ?? entry).replace(/\.$/, '');
  const below = /^\*?\.(.+)$/.exec(named);
  return { host: below?.[1] ?? named, isBelow: below !== null, port: withPort?.[2] };
}

/** Without the brackets of IPv6 in URLs. */
function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}
