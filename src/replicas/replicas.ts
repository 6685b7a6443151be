import type { RedisCache } from '../cache/redis-cache.ts';
import type { BlobTier } from '../core/sources/blob-tier.ts';
import type { Digest } from '../core/digest.ts';
import { steadyNow } from '../core/steady-now.ts';
import type { Events } from '../telemetry/events.ts';
import { Coordination } from './coordination.ts';
import { Leases } from './leases.ts';
import { Members } from './members.ts';
import { PeerBlobs, type PeerBlobsDeps } from './peer-blobs.ts';
import { PeerClient, type PeerClientDeps } from './peer-client.ts';
import type { PeerSeal } from './peer-seal.ts';
import { SharedBuilds } from './shared-builds.ts';

export interface ReplicasDeps extends Pick<PeerBlobsDeps, 'requestedName'>, Pick<PeerClientDeps, 'connect'> {
  readonly redis: RedisCache;
  readonly seal: PeerSeal;
  /** `replica.url`; port 0 stands for the port of the registry listener. */
  readonly url: string;
  readonly ttlSeconds: number;
  readonly events: Events;
}

/** What the admin API shows of replicas. */
export interface ReplicaList {
  readonly replicas: readonly {
    readonly id: string;
    readonly url: string;
    readonly isSelf: boolean;
    readonly since: string;
    readonly leases: number;
  }[];
  /** Blobs that this replica fetches for all. */
  readonly leases: readonly { readonly upstream: string; readonly digest: Digest; readonly since: string }[];
}

/** This replica among those that share a Redis. */
export class Replicas implements AsyncDisposable {
  readonly seal: PeerSeal;
  /** Indexes of layers, each built by one replica. */
  readonly builds: SharedBuilds;
  readonly #url: URL;
  readonly #members: Members;
  readonly #blobs: PeerBlobs;

  constructor({ redis, seal, url, ttlSeconds, connect, requestedName, events }: ReplicasDeps) {
    this.seal = seal;
    this.#url = new URL(url);
    const coordination = new Coordination(redis);
    const leaseCount = (): number => [...this.#blobs.held()].length;
    const members = new Members({ coordination, seal, leases: leaseCount, events });
    const self = (): string => members.id;
    const leases = new Leases({ coordination, self, group: seal.group, ttlSeconds });
    const client = new PeerClient({ seal, self, connect });
    const isMember = async (id: string): Promise<boolean> => (await members.find(id)) !== undefined;
    this.builds = new SharedBuilds({ leases, isMember, events });
    this.#members = members;
    this.#blobs = new PeerBlobs({ leases, members, client, requestedName, events });
  }

  /** Id of this replica; empty before it has joined. */
  get id(): string {
    return this.#members.id;
  }

  /** As {@link Members.count}. */
  get count(): number {
    return this.#members.count;
  }

  /** Ids of all that are alive, this one included. */
  get ids(): readonly string[] {
    return this.#members.all.map(({ id }) => id);
  }

  /** The other replicas, for fills. */
  get tier(): BlobTier {
    return this.#blobs;
  }

  /** As {@link PeerBlobs.serves}. */
  serves(upstream: string, digest: Digest): Promise<boolean> {
    return this.#blobs.serves(upstream, digest);
  }

  /** As {@link PeerBlobs.noteSent}. */
  noteSent(): void {
    this.#blobs.noteSent();
  }

  /** As {@link PeerBlobs.comesFromPeer}. */
  comesFromPeer(upstream: string, digest: Digest): boolean {
    return this.#blobs.comesFromPeer(upstream, digest);
  }

  /** @param listenerUrl URL of the registry listener, which is open */
  async join(listenerUrl: string): Promise<void> {
    const url = new URL(this.#url);
    if (url.port === '0') url.port = new URL(listenerUrl).port;
    await this.#members.join(url.origin);
  }

  /** Takes no new leases: this replica is about to leave. */
  drain(): void {
    this.#blobs.drain();
  }

  /**
   * Finishes what it reads from upstreams, in half of `graceMs` at most, tells the others to ask this replica
   * for nothing new, and hands the leases over.
   * @returns what is left of `graceMs`
   */
  async leave(graceMs: number): Promise<number> {
    const beganMs = steadyNow();
    await this.#blobs.finish(graceMs / 2);
    const leftMs = graceMs - (steadyNow() - beganMs);
    await Promise.all([this.#members.withdraw(), this.#blobs.leave()]);
    return leftMs;
  }

  describe(): ReplicaList {
    const time = (ms: number): string => new Date(ms).toISOString();
    return {
      replicas: this.#members.all.map(({ id, url, sinceMs, leases }) => ({
        id,
        url,
        isSelf: id === this.id,
        since: time(sinceMs),
        leases,
      })),
      leases: Array.from(this.#blobs.held(), ({ upstream, digest, sinceMs }) => ({
        upstream,
        digest,
        since: time(sinceMs),
      })),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blobs[Symbol.asyncDispose]();
    await this.#members[Symbol.asyncDispose]();
  }
}
