import { isIP } from 'node:net';

import type { RedisCache } from '../../../cache/redis-cache.ts';
import { readReplicaToken } from '../../../cache/read-replica-token.ts';
import type { ReadFile } from '../../../config/config-files.ts';
import type { Config } from '../../../config/config-keys.ts';
import { isSpandrelError } from '../../../core/errors.ts';
import { createPeerConnector, peerTlsOf } from '../../../replicas/create-peer-connector.ts';
import { PeerSeal } from '../../../replicas/peer-seal.ts';
import { type SurveyedReplica, surveyReplicas } from '../../../replicas/survey-replicas.ts';
import { Events } from '../../../telemetry/events.ts';
import { silentLogger } from '../../../telemetry/logger.ts';
import { kindOf } from '../../../upstream/address-kind.ts';
import type { Report } from '../finding.ts';

const PROBLEMS: Readonly<
  Record<Exclude<SurveyedReplica['state'], 'ok'>, { readonly words: string; readonly next: string }>
> = {
  unreachable: {
    words: 'does not respond: this machine would fetch what it has from the bucket or the upstream',
    next: 'check its replica.url, the network between replicas, replica.ca and replica.serverName',
  },
  refused: {
    words: 'refuses requests of this one',
    next: 'give all replicas the same replica.token, and each its own replica.url; compare the clocks',
  },
  clock: {
    words: 'is not used: its clock and that of this machine differ by more than 30 s',
    next: 'synchronize the clocks (chronyd, systemd-timesyncd)',
  },
};

/** Asks the replicas that share `redis`, which responds, as the proxy would. */
export async function checkReplicas(
  report: Report,
  config: Config,
  redis: RedisCache,
  read: ReadFile,
): Promise<void> {
  const { replica, upstreams = [] } = config;
  const [upstream] = upstreams;
  if (replica.url === undefined || upstream === undefined) return;
  if (isReadableOnTheWay(new URL(replica.url)))
    report.note(
      'replica.url is plain HTTP at a public address: what replicas send each other can be read on the way',
      'give the registry listener a certificate (listen.tls), and begin replica.url with https://',
    );
  try {
    const token = await readReplicaToken(replica, read);
    if (token === undefined) return;
    const { replicas, strangers } = await surveyReplicas({
      redis,
      seal: new PeerSeal(token),
      connect: createPeerConnector(peerTlsOf(config), read),
      url: replica.url,
      upstream: upstream.name,
      events: new Events(silentLogger()),
    });
    if (strangers > 0)
      report.problem(
        `${strangers} of the replicas that share this Redis ${strangers === 1 ? 'has' : 'have'} another ` +
          'replica.token: neither side uses the other',
        'give all replicas the same replica.token, or each group a Redis of its own',
      );
    else if (replicas.length === 0) report.note('no replica is running with this Redis and replica.token');
    for (const { url, state } of replicas)
      if (state === 'ok') report.ok(`replica ${url} responds to this one`);
      else report.problem(`replica ${url} ${PROBLEMS[state].words}`, PROBLEMS[state].next);
  } catch (error) {
    // The files of the token and the authority have findings of their own.
    if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
  }
}

/** Only of addresses: what a name stands for depends on who asks. */
function isReadableOnTheWay({ protocol, hostname }: URL): boolean {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  return protocol === 'http:' && isIP(address) !== 0 && kindOf(address) === 'public';
}
