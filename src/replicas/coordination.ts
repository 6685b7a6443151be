import type { RedisCache } from '../cache/redis-cache.ts';
import type { RedisScript } from '../cache/redis-script.ts';

/** Arguments of a script. */
export type ScriptArguments = readonly (string | number)[];

/**
 * Scripts in the Redis that replicas share. While Redis is lost, they fail at once, so that no request waits
 * for it; {@link probe} finds out when it is back.
 */
export class Coordination {
  readonly #redis: Pick<RedisCache, 'run'>;
  #isLost = false;

  constructor(redis: Pick<RedisCache, 'run'>) {
    this.#redis = redis;
  }

  /** The reply; `undefined` without Redis. */
  async run(script: RedisScript, key: string, args: ScriptArguments): Promise<unknown> {
    return this.#isLost ? undefined : this.probe(script, key, args);
  }

  /** As {@link run}, also while Redis is lost. Call it regularly. */
  async probe(script: RedisScript, key: string, args: ScriptArguments): Promise<unknown> {
    const reply = await this.#redis.run(script, key, args);
    this.#isLost = reply === undefined;
    return reply;
  }
}
