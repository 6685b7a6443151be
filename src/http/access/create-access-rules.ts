import { BlockList, isIPv4 } from 'node:net';

import type { Patience } from '../../cache/patience.ts';
import type { ReadFile } from '../../config/config-files.ts';
import type { Config } from '../../config/config-keys.ts';
import type { Events } from '../../telemetry/events.ts';
import { RateLimiter } from './rate-limiter.ts';
import type { AccessCheck } from './access-check.ts';
import type { AccessRules } from './access-gate.ts';
import { HtpasswdAccess } from './htpasswd-access.ts';
import { HtpasswdFile } from './htpasswd-file.ts';
import { PageGuard } from './page-guard.ts';
import { UpstreamAccess } from './upstream-access.ts';

export interface AccessDeps {
  readonly patience: Patience;
  readonly events: Events;
  readonly readFile: ReadFile;
}

/**
 * The rules that `access` and `limits` configure.
 * @throws SpandrelError CONFIG_INVALID if the htpasswd file is invalid
 */
export async function createAccessRules(
  { access, limits, listen, upstreams = [] }: Pick<Config, 'access' | 'limits' | 'listen' | 'upstreams'>,
  deps: AccessDeps,
): Promise<AccessRules> {
  const check = await createCheck(access, deps);
  const hosts = [
    ...(listen.hosts ?? []),
    ...upstreams.flatMap(({ hostnames }) => hostnames.map((name) => name.toLowerCase())),
  ];
  return {
    ...(access.cidrs === undefined ? {} : { networks: parseNetworks(access.cidrs) }),
    ...(limits.requestsPerSecond === undefined
      ? {}
      : { rateLimiter: new RateLimiter(limits.requestsPerSecond) }),
    ...(check === undefined ? {} : { check }),
    // Only `htpasswd` demands credentials from everybody: an upstream in a private network may have public
    // repositories.
    ...(access.kind === 'htpasswd' ? {} : { pages: new PageGuard({ host: listen.host, hosts }) }),
  };
}

async function createCheck(
  access: Config['access'],
  { patience, events, readFile }: AccessDeps,
): Promise<AccessCheck | undefined> {
  const lifetimeMs = access.verdictSeconds * 1000;
  if (access.kind === 'htpasswd' && access.htpasswdFile !== undefined)
    return new HtpasswdAccess({
      file: await HtpasswdFile.load(access.htpasswdFile, readFile),
      lifetimeMs,
      events,
    });
  if (access.kind === 'upstream')
    return new UpstreamAccess({
      challenge: access.challenge,
      lifetimeMs,
      staleMs: access.staleSeconds * 1000,
      patience,
      events,
    });
  return undefined;
}

function parseNetworks(cidrs: readonly string[]): BlockList {
  const networks = new BlockList();
  for (const cidr of cidrs) {
    const [address = '', prefix = ''] = cidr.split('/');
    networks.addSubnet(address, Number(prefix), isIPv4(address) ? 'ipv4' : 'ipv6');
  }
  return networks;
}
