import { Conditions } from '../conditions.ts';
import type { Logger } from '../logger.ts';

/** What failed: a command, or a value whose seal is wrong. */
export type RedisOp = 'get' | 'set' | 'del' | 'ping' | 'seal' | 'script' | 'info';

/** A part of `Metrics`. */
interface RedisMetrics {
  readonly redisErrors: { inc(labels: { readonly op: RedisOp | 'connect' }): void };
}

/** Events of the Redis that replicas share. A part of `Events`. */
export class RedisEvents {
  readonly #logger: Logger;
  readonly #metrics: RedisMetrics;
  readonly #conditions: Conditions;

  constructor(logger: Logger, metrics: RedisMetrics) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.#conditions = new Conditions(logger);
  }

  /** Commands that Redis refused within the last minute, in words for an operator. */
  get conditions(): readonly string[] {
    return this.#conditions.current;
  }

  connected(): void {
    this.#logger.info('redis connected');
  }

  /** @param isNews the first failure of its kind since the last connection; only that is logged */
  unreachable(cause: string, isNews: boolean): void {
    this.#metrics.redisErrors.inc({ op: 'connect' });
    if (isNews) this.#logger.warn({ cause }, 'redis lost: reads are slower until it is back');
  }

  failed(op: RedisOp): void {
    this.#metrics.redisErrors.inc({ op });
  }

  /**
   * Redis is there, and refuses a command.
   * @param code of Redis, like NOPERM
   * @param message of Redis, for the log
   */
  refused(op: RedisOp, code: string, message: string): void {
    this.failed(op);
    this.#conditions.note(code, `cache.redis: Redis refuses commands (${code}): ${refusalStep(code)}`, {
      op,
      cause: message,
    });
  }
}

const STEPS: Readonly<Record<string, string>> = {
  NOPERM: 'allow its user what docs/scaling.md#redis lists',
  MOVED: 'it is a node of a Redis Cluster: set cache.redis.cluster: true',
  CROSSSLOT: 'it is a Redis Cluster behind one address: set cache.redis.cluster: true',
  READONLY: 'cache.redis.url names a copy: name the primary',
  OOM: 'it is full: set its maxmemory-policy to allkeys-lru',
  MISCONF: 'it cannot write its snapshots: switch them off, or free its disk',
  CLUSTERDOWN: 'slots of the cluster have no node: see CLUSTER INFO',
};

/** What an operator does about a command that Redis refuses with this code. */
export function refusalStep(code: string): string {
  return STEPS[code] ?? 'see the log';
}
