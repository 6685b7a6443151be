import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { FaultProxy } from '../../test/helpers/faults/fault-proxy.ts';
import { MotoBucket } from '../../test/helpers/upstreams/moto-bucket.ts';
import { RedisCluster } from '../../test/helpers/upstreams/redis-cluster.ts';
import { ProxyProcess } from './proxy-process.ts';
import type { ScratchFolder } from './scratch-folder.ts';
import { TcpBalancer } from './tcp-balancer.ts';

export interface ReplicaGroupOptions {
  readonly upstreamUrl: string;
  readonly folder: ScratchFolder;
  readonly replicas: number;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Replicas in processes of their own behind a balancer, with a Redis Cluster of three nodes and a bucket. */
export class ReplicaGroup implements AsyncDisposable {
  readonly redis: RedisCluster;
  readonly bucket: MotoBucket;
  /** Between the replicas and the bucket. */
  readonly bucketFaults: FaultProxy;
  readonly balancer: TcpBalancer;
  readonly replicas: ProxyProcess[] = [];
  readonly #options: ReplicaGroupOptions;
  readonly #resources: AsyncDisposableStack;
  readonly #roots: string[] = [];
  readonly #token = randomBytes(24).toString('hex');

  private constructor(
    options: ReplicaGroupOptions,
    resources: AsyncDisposableStack,
    parts: Pick<ReplicaGroup, 'redis' | 'bucket' | 'bucketFaults' | 'balancer'>,
  ) {
    this.#options = options;
    this.#resources = resources;
    this.redis = parts.redis;
    this.bucket = parts.bucket;
    this.bucketFaults = parts.bucketFaults;
    this.balancer = parts.balancer;
  }

  /** Resolves when all replicas know each other. */
  static async start(options: ReplicaGroupOptions): Promise<ReplicaGroup> {
    await using starting = new AsyncDisposableStack();
    const redis = starting.use(await RedisCluster.start());
    const bucket = starting.use(await MotoBucket.start());
    const bucketFaults = starting.use(await FaultProxy.start(bucket.url));
    const balancer = starting.use(await TcpBalancer.start([]));
    const parts = { redis, bucket, bucketFaults, balancer };
    const group = new ReplicaGroup(options, starting.move(), parts);
    try {
      for (let count = 0; count < options.replicas; count++) await group.add();
      return group;
    } catch (error) {
      await group[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** One more replica, with an empty disk. */
  async add(): Promise<ProxyProcess> {
    const root = this.#options.folder.next();
    const replica = await this.#start(root);
    this.#roots.push(root);
    this.replicas.push(replica);
    this.balancer.add(replica);
    return replica;
  }

  /** Kills a replica or tells it to stop, and starts another one on its disk after a while. */
  async restart(place: number, end: 'kill' | 'stop', afterMs = 0): Promise<void> {
    const [old, root] = [this.replicas[place], this.#roots[place]];
    if (old === undefined || root === undefined) throw new RangeError(`no replica ${place}`);
    await old[end]();
    await sleep(afterMs);
    const next = await this.#start(root);
    this.replicas[place] = next;
    this.balancer.remove(old);
    this.balancer.add(next);
  }

  async #start(root: string): Promise<ProxyProcess> {
    const replica = await ProxyProcess.start({
      upstreamUrl: this.#options.upstreamUrl,
      root,
      environment: {
        SPANDREL_CACHE_REDIS_URL: this.redis.url,
        SPANDREL_CACHE_REDIS_CLUSTER: 'true',
        SPANDREL_REPLICA_URL: 'http://127.0.0.1:0',
        SPANDREL_REPLICA_TOKEN: this.#token,
        SPANDREL_STORAGE_S3_BUCKET: this.bucket.name,
        SPANDREL_STORAGE_S3_ENDPOINT: this.bucketFaults.url,
        SPANDREL_STORAGE_S3_REGION: 'us-east-1',
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: 'test',
        ...this.#options.environment,
      },
    });
    this.#resources.use(replica);
    return replica;
  }

  /** The replica that fetches this blob for all; `undefined` while nobody does. */
  async ownerOf(digest: string): Promise<ProxyProcess | undefined> {
    for (const replica of this.replicas) if ((await replica.heldLeases()).includes(digest)) return replica;
    return undefined;
  }

  /** Sum of a metric over its labels and the replicas that respond. */
  async metric(name: string): Promise<number> {
    const values = await Promise.allSettled(
      this.replicas.map(async (replica) => (await replica.metrics())(name)),
    );
    return values.reduce((sum, value) => sum + (value.status === 'fulfilled' ? value.value : 0), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources[Symbol.asyncDispose]();
  }
}
