import { randomUUID } from 'node:crypto';

import { openRedis } from '../../../cache/open-redis.ts';
import { NO_CLUSTER, type RedisCache } from '../../../cache/redis-cache.ts';
import { RedisScript } from '../../../cache/redis-script.ts';
import type { ReadFile } from '../../../config/config-files.ts';
import type { Config } from '../../../config/config-keys.ts';
import { isSpandrelError } from '../../../core/errors.ts';
import { isSystemError } from '../../../core/node-error-code.ts';
import { Events } from '../../../telemetry/events.ts';
import { silentLogger } from '../../../telemetry/logger.ts';
import { refusalStep } from '../../../telemetry/replicas/redis-events.ts';
import type { Report } from '../finding.ts';
import { checkReplicas } from './check-replicas.ts';

/** Enough that each of several nodes of a cluster has some. */
const KEYS = 16;

/** The commands that scripts of replicas use. */
const SCRIPT = new RedisScript(`
redis.call('TIME')
redis.call('HSET', KEYS[1], 'a', '1', 'b', '2')
redis.call('HLEN', KEYS[1])
redis.call('HGET', KEYS[1], 'a')
redis.call('HMGET', KEYS[1], 'a', 'b')
redis.call('HGETALL', KEYS[1])
redis.call('HDEL', KEYS[1], 'a')
redis.call('EXPIRE', KEYS[1], 10)
redis.call('PEXPIRE', KEYS[1], 10000)
return redis.call('DEL', KEYS[1])`);

const FAULTS: readonly (readonly [fault: RegExp, next: string])[] = [
  [
    /^(WRONGPASS|NOAUTH|ERR)$/,
    'correct the user in cache.redis.url, and its password (cache.redis.passwordFile)',
  ],
  [new RegExp(`^${NO_CLUSTER}$`), 'it is a single Redis: set cache.redis.cluster: false'],
  [
    /CERT|SIGNATURE|TLS|SSL|EPROTO/,
    'use rediss:// for a Redis with TLS, and name its authority in cache.redis.ca',
  ],
  [/^(ENOTFOUND|EAI_AGAIN)$/, 'correct the host in cache.redis.url, or the name server'],
];
const UNREACHABLE =
  'check cache.redis.url, that Redis runs, its TLS (rediss:// or redis://), firewalls and security groups';

/** Does with the shared Redis what replicas do, then asks the replicas that share it. */
export async function checkRedis(report: Report, config: Config, read: ReadFile): Promise<void> {
  if (config.cache.redis.url === undefined) return;
  const url = new URL(config.cache.redis.url.reveal());
  const name = `Redis at ${url.protocol}//${url.host}`;
  try {
    await using redis = await openRedis(config, read, new Events(silentLogger()));
    if (redis === undefined) return;
    if (!(await redis.responds())) {
      const { refusal } = redis;
      const why = refusal ?? redis.fault ?? 'no response';
      const [, next = UNREACHABLE] = FAULTS.find(([codes]) => codes.test(why)) ?? [];
      report.problem(
        `${name} does not respond, or refuses the credentials (${why}): replicas share nothing`,
        refusal === undefined ? next : refusalStep(refusal),
        { code: 'REDIS_LOST' },
      );
      return;
    }
    if (!(await checkCommands(report, name, redis, config.cache.redis.cluster))) return;
    report.ok(`${name} responds`);
    await checkReplicas(report, config, redis, read);
  } catch (error) {
    if (!isSpandrelError(error) && !isSystemError(error)) throw error;
    report.problem(`${name}: ${error.message}`, 'correct cache.redis', { code: 'CONFIG_INVALID' });
  }
}

/** False if there is a problem. */
async function checkCommands(
  report: Report,
  name: string,
  redis: RedisCache,
  isCluster: boolean,
): Promise<boolean> {
  const about = await redis.describe();
  if (about?.isCluster === true && !isCluster) {
    report.problem(`${name} is a node of a Redis Cluster`, refusalStep('MOVED'), { code: 'REDIS_LOST' });
    return false;
  }
  for (let place = 0; place < KEYS; place++) {
    const key = `doctor:${randomUUID()}`;
    await redis.set(key, Buffer.from('doctor'));
    await redis.get(key);
    await redis.delete(key);
    await redis.run(SCRIPT, key, []);
  }
  const { refusal } = redis;
  if (refusal !== undefined) {
    const next = refusalStep(refusal);
    report.problem(`${name} refuses commands (${refusal})`, next, { code: 'REDIS_LOST' });
    return false;
  }
  if (about?.maxBytes === 0)
    report.note(`${name} has no maxmemory: it grows until its machine is full`, MEMORY);
  else if (about?.eviction !== undefined && !about.eviction.startsWith('allkeys-'))
    report.note(
      `${name} has the maxmemory-policy ${about.eviction}: it refuses writes when it is full`,
      MEMORY,
    );
  return true;
}

const MEMORY = 'set maxmemory, and maxmemory-policy to allkeys-lru: see docs/scaling.md#redis';
