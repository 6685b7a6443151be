import { createHmac } from 'node:crypto';

import { Cluster, Redis } from 'ioredis';

import { nodeErrorCode } from '../core/node-error-code.ts';
import type { Secret } from '../core/secret.ts';
import type { Events } from '../telemetry/events.ts';
import type { RedisOp } from '../telemetry/replicas/redis-events.ts';
import type { ByteCache, CacheHit } from './byte-cache.ts';
import { parseRedisUrl, type RedisAddress } from './redis-address.ts';
import { COMMAND_TIMEOUT_MS, RedisHealth } from './redis-health.ts';
import type { RedisScript } from './redis-script.ts';
import { ValueSeal } from './value-seal.ts';

/**
 * Part of every key. Change it when the meaning of the values changes, so that old and new replicas do not
 * read each other's.
 */
const KEY_PREFIX = 'spandrel:1:';
const GROUP_CHARACTERS = 12;
/** Larger values would delay the other commands of a connection. */
const MAX_VALUE_BYTES = 64 * 2 ** 20;
const CONNECT_TIMEOUT_MS = 2000;
/** Large values take their time, and bring no reply before their end. */
const DEAD_CONNECTION_MS = 10_000;
const MAX_RECONNECT_DELAY_MS = 2000;
/** How often a Redis that is read-only since a failover is left for the new one behind the same name. */
const LEAVE_READ_ONLY_MS = 5000;
/** {@link RedisCache.fault} of a single Redis that is configured as a cluster. */
export const NO_CLUSTER = 'no cluster';
/** Name of the client library's errors for error replies. */
const REFUSED = 'ReplyError';

export interface RedisCacheDeps {
  readonly url: Secret;
  /** Instead of one in the URL. */
  readonly password?: Secret | undefined;
  /** PEM text of an authority that is trusted besides the default ones. */
  readonly ca?: string | undefined;
  /** Whether `url` is a node of a Redis Cluster. */
  readonly cluster: boolean;
  readonly ttlSeconds: number;
  /**
   * Key with which replicas seal values. Without it, values that anyone else writes to Redis pass as values
   * of replicas.
   */
  readonly key?: Secret | undefined;
  /**
   * A connection that has brought no reply for so long is opened anew: the network may have forgotten it, and
   * the kernel would go on sending for a quarter of an hour. Has a default.
   */
  readonly deadConnectionMs?: number;
  readonly events: Events;
}

export interface RedisDescription {
  /** Whether it is a node of a Redis Cluster. */
  readonly isCluster: boolean;
  /** 0 for no limit. */
  readonly maxBytes: number;
  /** `maxmemory-policy`, like `allkeys-lru`. */
  readonly eviction: string | undefined;
}

/**
 * The cache that replicas share. Every failure and every wrong seal is a miss, counted in
 * `redis_errors_total`. Callers see no errors; the log says when the connection is lost and when it is back.
 */
export class RedisCache implements ByteCache, AsyncDisposable {
  readonly #redis: Redis | Cluster;
  /** How long Redis keeps what is written. */
  readonly ttlSeconds: number;
  readonly #events: Events;
  readonly #seal: ValueSeal | undefined;
  readonly #prefix: string;
  readonly #health: RedisHealth;
  #fault: string | undefined;
  #refusal: string | undefined;
  /** Logged since the connection was lost: a refused password shows only when Redis is back. */
  readonly #causes = new Set<string>();
  #isAsking = false;
  #closing = false;

  constructor(deps: RedisCacheDeps) {
    this.ttlSeconds = deps.ttlSeconds;
    this.#events = deps.events;
    this.#seal = deps.key && new ValueSeal(deps.key);
    const { deadConnectionMs: socketTimeout = DEAD_CONNECTION_MS } = deps;
    const address = { ...parseRedisUrl(deps.url, deps), socketTimeout };
    this.#prefix = deps.key === undefined ? KEY_PREFIX : `${KEY_PREFIX}${groupOf(deps.key)}:`;
    this.#health = new RedisHealth((sickness) => {
      if (sickness === undefined) this.#recover();
      else this.#lose(sickness, `it does not respond in time: ${sickness}`);
    });
    this.#redis = deps.cluster ? openCluster(address) : openSingle(address);
    this.#redis.on('ready', () => {
      this.#health.reset();
      this.#recover();
    });
    this.#redis.on('error', (error: Error) => {
      this.#events.limits.failed(error);
      this.#lose(causeOf(error), firstCause(error).message);
    });
  }

  #lose(cause: string, message: string): void {
    this.#events.redis.unreachable(message, !this.#causes.has(cause));
    this.#causes.add(cause);
    this.#fault = cause;
  }

  #recover(): void {
    this.#fault = undefined;
    this.#causes.clear();
    this.#events.redis.connected();
  }

  /**
   * Resolves when the first attempt to connect succeeds or fails. Start-up waits for it, so that the first
   * requests find the cache.
   */
  async connected(): Promise<void> {
    if (this.#redis.status === 'ready') return;
    await new Promise<void>((resolve) => {
      this.#redis.once('ready', () => resolve());
      this.#redis.once('error', () => resolve());
    });
  }

  /**
   * The last failure since the connection was lost: a code of Redis (WRONGPASS) or of the system; SILENT or
   * SLOW if Redis is connected.
   */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** Code of the last command that Redis refused, like NOPERM. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  get ready(): boolean {
    return this.#redis.status === 'ready';
  }

  get isAuthentic(): boolean {
    return this.#seal !== undefined;
  }

  async get(key: string): Promise<CacheHit | undefined> {
    const name = this.#nameOf(key);
    const value = await this.#attempt('get', () => this.#redis.getBuffer(name));
    if (value === undefined || value === null) return undefined;
    const bytes = this.#seal === undefined ? value : await this.#seal.open(name, value);
    if (bytes !== undefined) return { bytes, tier: 'redis' };
    this.#events.redis.failed('seal');
    await this.delete(key);
    return undefined;
  }

  async set(key: string, bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength > MAX_VALUE_BYTES) return;
    const name = this.#nameOf(key);
    const value = await this.#valueOf(name, bytes);
    await this.#attempt('set', () => this.#redis.set(name, value, 'EX', this.ttlSeconds));
  }

  async setNew(key: string, bytes: Uint8Array): Promise<CacheHit | undefined> {
    if (bytes.byteLength > MAX_VALUE_BYTES) return undefined;
    const name = this.#nameOf(key);
    const value = await this.#valueOf(name, bytes);
    const set = await this.#attempt('set', () => this.#redis.set(name, value, 'EX', this.ttlSeconds, 'NX'));
    return set === null ? this.get(key) : undefined;
  }

  async delete(key: string): Promise<void> {
    await this.#attempt('del', () => this.#redis.del(this.#nameOf(key)));
  }

  async #valueOf(name: string, bytes: Uint8Array): Promise<Buffer> {
    if (this.#seal !== undefined) return this.#seal.close(name, bytes);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** A text as the value of `key` for {@link runOwn}, with its seal. */
  async close(key: string, text: string): Promise<string> {
    if (this.#seal === undefined) return text;
    return (await this.#seal.close(this.#nameOf(key), Buffer.from(text))).toString('base64');
  }

  /** The text of a value that {@link close} has made for this key; `undefined` if its seal is wrong. */
  async open(key: string, value: string): Promise<string | undefined> {
    if (this.#seal === undefined) return value;
    const bytes = await this.#seal.open(this.#nameOf(key), Buffer.from(value, 'base64'));
    if (bytes === undefined) this.#events.redis.failed('seal');
    return bytes && Buffer.from(bytes).toString();
  }

  /**
   * Runs a script on one key that all replicas of this Redis see. In a cluster, the node of the key runs it.
   * @returns the reply; `undefined` if Redis is not available or the script fails
   */
  async run(script: RedisScript, key: string, args: readonly (string | number)[]): Promise<unknown> {
    return this.#run(script, KEY_PREFIX + key, args);
  }

  /** As {@link run}, on a key that only replicas with the same seal key see. */
  async runOwn(script: RedisScript, key: string, args: readonly (string | number)[]): Promise<unknown> {
    return this.#run(script, this.#nameOf(key), args);
  }

  async #run(script: RedisScript, name: string, args: readonly (string | number)[]): Promise<unknown> {
    return this.#attempt('script', async () => {
      try {
        return await this.#redis.evalsha(script.sha, 1, name, ...args);
      } catch (error) {
        // A server forgets scripts when it restarts.
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
        return this.#redis.eval(script.lua, 1, name, ...args);
      }
    });
  }

  #nameOf(key: string): string {
    return this.#prefix + key;
  }

  /** Whether Redis responds to a PING. */
  async responds(): Promise<boolean> {
    return this.ready && (await this.#attempt('ping', () => this.#redis.ping())) !== undefined;
  }

  /** What it says about itself; `undefined` if it does not. */
  async describe(): Promise<RedisDescription | undefined> {
    const text = await this.#attempt('info', () => this.#redis.info());
    if (text === undefined) return undefined;
    const field = (name: string): string | undefined =>
      new RegExp(`^${name}:(.*)$`, 'm').exec(text)?.[1]?.trim();
    return {
      isCluster: field('cluster_enabled') === '1',
      maxBytes: Number(field('maxmemory') ?? 0),
      eviction: field('maxmemory_policy'),
    };
  }

  async #attempt<T>(op: Exclude<RedisOp, 'seal'>, command: () => Promise<T>): Promise<T | undefined> {
    if (this.#health.sickness !== undefined && op !== 'ping') {
      // Otherwise each step of a request would wait for it.
      void this.#askAgain();
      this.#events.redis.failed(op);
      return undefined;
    }
    try {
      return await this.#health.watch(command, op === 'ping');
    } catch (error) {
      // The client library rejects with various classes; all mean that Redis is not available.
      if (!(error instanceof Error)) throw error;
      if (error.name === REFUSED) {
        this.#refusal = causeOf(error);
        this.#events.redis.refused(op, this.#refusal, error.message);
      } else this.#events.redis.failed(op);
      return undefined;
    }
  }

  /** A response in time ends the sickness. */
  async #askAgain(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    await this.responds();
    this.#isAsking = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#redis.disconnect();
    await Promise.resolve();
  }
}

const COMMON = {
  connectTimeout: CONNECT_TIMEOUT_MS,
  commandTimeout: COMMAND_TIMEOUT_MS,
  // Without a connection a command fails at once: the disk is faster than waiting.
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
} as const;

function retryStrategy(attempt: number): number {
  return Math.min(attempt * 100, MAX_RECONNECT_DELAY_MS);
}

/** Replicas with different keys, or with none, do not see each other's values. */
function groupOf(key: Secret): string {
  return createHmac('sha256', key.reveal()).update('group').digest('hex').slice(0, GROUP_CHARACTERS);
}

type TimedAddress = RedisAddress & { readonly socketTimeout: number };

function openSingle(address: TimedAddress): Redis {
  let leftMs = -Infinity;
  return new Redis({
    ...address,
    ...COMMON,
    retryStrategy,
    reconnectOnError(error) {
      const isDue = performance.now() - leftMs > LEAVE_READ_ONLY_MS;
      if (!isDue || !error.message.startsWith('READONLY')) return false;
      leftMs = performance.now();
      return true;
    },
  });
}

/** Enough for a slot that has just moved. A node that is dead costs the commands for its slots little. */
const FEW_RETRIES = {
  maxRedirections: 4,
  retryDelayOnFailover: 20,
  retryDelayOnClusterDown: 0,
  retryDelayOnTryAgain: 20,
} as const;

/** A cluster has no numbered databases. */
function openCluster({ host, port, db: _db, ...ofEveryNode }: TimedAddress): Cluster {
  return new Cluster([{ host, port }], {
    redisOptions: { ...ofEveryNode, ...COMMON },
    enableOfflineQueue: false,
    clusterRetryStrategy: retryStrategy,
    ...FEW_RETRIES,
    // Certificates name hosts; by default the library connects to addresses.
    dnsLookup: (address, callback) => callback(null, address),
  });
}

/** Few words, of closed sets: `WRONGPASS` of "WRONGPASS invalid username-password pair", `ECONNREFUSED`. */
function causeOf(error: Error): string {
  const first = firstCause(error);
  if (first.message.includes('cluster support disabled')) return NO_CLUSTER;
  if (first.message.startsWith('Socket timeout')) return 'SILENT';
  return /^[A-Z]{3,}(?= )/.exec(first.message)?.[0] ?? (nodeErrorCode(first) || first.name);
}

/** Why a node of a cluster refused or failed, instead of the cluster's "Failed to refresh slots cache". */
function firstCause(error: Error): Error {
  return 'lastNodeError' in error && error.lastNodeError instanceof Error ? error.lastNodeError : error;
}
