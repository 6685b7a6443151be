import type { buildConnector } from 'undici';

import type { RedisCache } from '../cache/redis-cache.ts';
import { TimeLimit } from '../core/work/time-limit.ts';
import type { Events } from '../telemetry/events.ts';
import { Coordination } from './coordination.ts';
import { LifeWatch } from './life-watch.ts';
import { memberId } from './member.ts';
import { Members } from './members.ts';
import { PeerClient } from './peer-client.ts';
import type { PeerSeal } from './peer-seal.ts';

export interface SurveyDeps {
  readonly redis: RedisCache;
  readonly seal: PeerSeal;
  readonly connect: buildConnector.connector;
  /** `replica.url` of who asks. */
  readonly url: string;
  /** An upstream that all replicas have. */
  readonly upstream: string;
  readonly events: Events;
}

/** A replica as others would use it. `clock`: its clock, or that of this machine, is wrong. */
export interface SurveyedReplica {
  readonly url: string;
  readonly state: 'ok' | 'unreachable' | 'refused' | 'clock';
}

const LIMIT_MS = 5_000;
const NO_BLOB = `sha256:${'0'.repeat(64)}`;

export interface Survey {
  readonly replicas: readonly SurveyedReplica[];
  /** Those that share the Redis, but not the token. */
  readonly strangers: number;
}

/** Asks each replica that is alive, without joining them, for a blob that none has. */
export async function surveyReplicas(deps: SurveyDeps): Promise<Survey> {
  const { redis, seal, connect, url, events } = deps;
  const self = (): string => memberId(url);
  const coordination = new Coordination(redis);
  const members = new Members({ coordination, seal, leases: () => 0, events });
  await using client = new PeerClient({ seal, self, connect });
  const seen = await members.look();
  const path = `/v2/${deps.upstream}/doctor/blobs/${NO_BLOB}`;
  const asked = seen.map(async (to): Promise<SurveyedReplica> => {
    using limit = new TimeLimit(LIMIT_MS);
    const { signal } = limit;
    using watch = new LifeWatch(() => Promise.resolve('alive'), signal);
    const request = { to, path, range: undefined, sizeBytes: undefined, watch, signal };
    try {
      const found = await client.fetch(request);
      if (found === 'absent') return { url: to.url, state: 'ok' };
      return { url: to.url, state: found === 'unreachable' ? 'unreachable' : 'refused' };
    } catch (error) {
      if (!signal.aborted) throw error;
      return { url: to.url, state: 'unreachable' };
    }
  });
  const strayed = members.withWrongClock.map((stray): SurveyedReplica => ({ url: stray, state: 'clock' }));
  return { replicas: [...(await Promise.all(asked)), ...strayed], strangers: members.strangers };
}
