import { setTimeout as sleep } from 'node:timers/promises';

import type { BlobResponse } from '../core/sources/blob-source.ts';
import type { BlobTier, TierBlob, TierOutcome } from '../core/sources/blob-tier.ts';
import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { steadyNow } from '../core/steady-now.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Events } from '../telemetry/events.ts';
import { HeldLease } from './held-lease.ts';
import { type LeaseState, type Leases, LOOK_MS, SILENCE_MS } from './leases.ts';
import { type LifeSign, LifeWatch } from './life-watch.ts';
import type { Members, SeenMember } from './members.ts';
import type { PeerClient, PeerRefusal } from './peer-client.ts';
import { PeerLinks } from './peer-links.ts';

export interface PeerBlobsDeps {
  readonly leases: Leases;
  readonly members: Members;
  readonly client: PeerClient;
  /** Name of a repository of an upstream in requests to this proxy, of its name at the upstream. */
  readonly requestedName: (upstream: string, repository: string) => string;
  readonly events: Events;
}

/** What this replica knows of a blob during a fill. */
interface Share {
  readonly blob: TierBlob;
  /**
   * This replica fetches for all. It asks no other one for this fill any more, so that no two wait for each
   * other.
   */
  isOwn: boolean;
  lease: HeldLease | undefined;
  /** Requests to the upstream that run. */
  reads: number;
  readonly sinceMs: number;
  /** Asked for the next bytes. */
  peer: SeenMember | undefined;
  /** Ids of replicas that did not send it. */
  readonly useless: Set<string>;
  /** A replica has it, or fetches it, for other repositories: the lease is theirs. */
  isDenied: boolean;
  choosing: Promise<SeenMember | undefined> | undefined;
}

/** A blob that this replica fetches for all. */
export interface HeldBlob {
  readonly upstream: string;
  readonly digest: Digest;
  readonly sinceMs: number;
}

/** Looks at a replica that has the whole blob: it waits for nothing but its disk. */
const MAX_QUIET_LOOKS = 8;
/** The upstream of the other replica has this long for its first byte, as the own one. */
const HEAD_LOOKS = 120;
/** After so many looks without a byte, the other replica is asked whether it can be reached. */
const LINK_LOOKS = 4;
/** How often a replica that leaves looks for another one that goes on. */
const MAX_NEXT_LOOKS = 12;
/** When a replica that leaves looks again whether it has finished. */
const FINISH_LOOK_MS = 50;
/** After so long without a byte to them, the others have read what they wanted. */
const QUIET_MS = 750;
/** Replicas that one request asks. */
const MAX_ASKED = 3;

/**
 * The other replicas as a tier. A cold blob is fetched by the replica that gets its lease; the others stream
 * it from there while it arrives. If that one dies, freezes or loses the blob, another takes the lease.
 */
export class PeerBlobs implements BlobTier, AsyncDisposable {
  readonly name = 'peer';
  readonly #deps: PeerBlobsDeps;
  /** Fills, by lease name. */
  readonly #shares = new Map<string, Share>();
  readonly #links: PeerLinks;
  readonly #ending = new Set<Promise<void>>();
  /** Takes no leases any more. */
  #isDraining = false;
  /** While this replica finishes: resolves when it has given its leases away. */
  #leaving: PromiseWithResolvers<void> | undefined;
  /** When another replica got bytes from this one last. */
  #sentMs = -Infinity;
  #hasLeft = false;

  constructor(deps: PeerBlobsDeps) {
    this.#deps = deps;
    this.#links = new PeerLinks(deps.client);
  }

  /** The blobs that this replica fetches for all. */
  *held(): Generator<HeldBlob> {
    for (const { blob, lease, sinceMs } of this.#shares.values())
      if (lease?.isLost === false) yield { upstream: blob.upstream, digest: blob.digest, sinceMs };
  }

  /** True if this replica fetches the blob for all, so that others may ask it. */
  async serves(upstream: string, digest: Digest): Promise<boolean> {
    const share = this.#shares.get(leaseName({ upstream, digest }));
    // Others may know of the lease before this replica does.
    await share?.choosing;
    return share?.isOwn === true;
  }

  /** True while a fill gets the blob from another replica. */
  comesFromPeer(upstream: string, digest: Digest): boolean {
    return this.#shares.get(leaseName({ upstream, digest }))?.peer !== undefined;
  }

  async fetch(
    blob: TierBlob,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined> {
    const share = this.#shareOf(blob);
    if (share.isOwn && this.#leaving !== undefined) await waitFor(this.#leaving.promise, signal);
    for (let asked = 0; asked < MAX_ASKED; asked++) {
      const peer = await this.#choose(blob, share);
      signal.throwIfAborted();
      if (peer === undefined) return undefined;
      const response = await this.#ask(blob, share, { peer, range, signal, sizeBytes });
      if (response !== undefined) return response;
    }
    return undefined;
  }

  upstreamRead(blob: TierBlob): () => void {
    const share = this.#shareOf(blob);
    share.reads++;
    return () => share.reads--;
  }

  #shareOf(blob: TierBlob): Share {
    const name = leaseName(blob);
    const known = this.#shares.get(name);
    if (known !== undefined) return known;
    const share: Share = {
      blob,
      isOwn: false,
      lease: undefined,
      reads: 0,
      sinceMs: steadyNow(),
      peer: undefined,
      useless: new Set(),
      isDenied: false,
      choosing: undefined,
    };
    this.#shares.set(name, share);
    return share;
  }

  /** Whom to ask; `undefined` if this replica should fetch by itself. */
  async #choose(blob: TierBlob, share: Share): Promise<SeenMember | undefined> {
    if (share.isOwn) return undefined;
    if (share.peer !== undefined) return share.peer;
    share.choosing ??= this.#agree(blob, share).finally(() => (share.choosing = undefined));
    return share.choosing;
  }

  async #agree(blob: TierBlob, share: Share): Promise<SeenMember | undefined> {
    const { leases, events } = this.#deps;
    const name = leaseName(blob);
    let state = this.#isDraining ? await this.#awaitNext(name) : await leases.claim(name);
    for (let tries = 0; tries < MAX_ASKED && state !== undefined; tries++) {
      if (state.kind === 'mine') {
        this.#take(name, share, state);
        events.replicas.leaseAgreed(tries === 0 ? 'claimed' : 'taken_over');
        return undefined;
      }
      share.peer = await this.#usable(state, share, blob.digest);
      if (share.peer !== undefined) {
        events.replicas.leaseAgreed('other');
        return share.peer;
      }
      if (this.#isDraining || share.isDenied) break;
      state = await leases.takeOver(name, state, [...share.useless]);
    }
    events.replicas.leaseAgreed('none');
    return undefined;
  }

  /** A replica that leaves gives the others time to take what it has given away. */
  async #awaitNext(name: string): Promise<LeaseState | undefined> {
    const { leases, members } = this.#deps;
    for (let looks = 0; ; looks++) {
      const state = await leases.look(name);
      if (!this.#hasLeft || state?.kind !== 'free' || looks >= MAX_NEXT_LOOKS || members.count < 2)
        return state;
      await sleep(LOOK_MS);
    }
  }

  #take(name: string, share: Share, { fence }: LeaseState): void {
    const lease = new HeldLease(this.#deps.leases, name, fence);
    // The fill may have ended, or this replica may have left, since Redis was asked.
    if (this.#shares.get(name) !== share || this.#hasLeft) {
      this.#end(lease.end('undone'));
      return;
    }
    share.isOwn = true;
    share.lease = lease;
  }

  /** A live replica that works on the blob, or has it. Those that have it take turns. */
  async #usable(
    { worker, holders }: LeaseState,
    share: Share,
    digest: Digest,
  ): Promise<SeenMember | undefined> {
    const { members } = this.#deps;
    const start = holders.length === 0 ? 0 : parseInt(digest.slice(-4) + members.id.slice(0, 4), 16);
    const turned = holders.map((_, place) => holders[(start + place) % holders.length]);
    for (const id of [worker, ...turned]) {
      if (id === undefined || share.useless.has(id)) continue;
      const member = await members.find(id);
      if (member !== undefined && this.#links.isOpen(member)) return member;
      share.useless.add(id);
    }
    return undefined;
  }

  async #ask(
    blob: TierBlob,
    share: Share,
    {
      peer,
      range,
      signal,
      sizeBytes,
    }: {
      readonly peer: SeenMember;
      readonly range: ByteRange | undefined;
      readonly signal: AbortSignal;
      readonly sizeBytes: number | undefined;
    },
  ): Promise<BlobResponse | undefined> {
    const { client, requestedName, events } = this.#deps;
    const { upstream, repository, digest } = blob;
    const path = `/v2/${upstream}/${requestedName(upstream, repository)}/blobs/${digest}`;
    const watch = new LifeWatch((quietLooks) => this.#lookAt(peer, blob, quietLooks), signal);
    const found = await client
      .fetch({ to: peer, path, range, sizeBytes, watch, signal })
      .catch((error: unknown) => {
        watch[Symbol.dispose]();
        throw error;
      });
    events.replicas.peerResponded(typeof found === 'string' ? found : 'ok');
    if (typeof found !== 'string') {
      this.#links.noteUse(peer);
      return { ...found, body: this.#untilBroken(found, peer, share, signal) };
    }
    watch[Symbol.dispose]();
    this.#giveUp(peer, share, found);
    return undefined;
  }

  #giveUp(peer: SeenMember, share: Share, why: PeerRefusal | 'broken'): void {
    share.useless.add(peer.id);
    if (share.peer?.id === peer.id) share.peer = undefined;
    if (why === 'denied') share.isDenied = true;
    if (why === 'unreachable') this.#links.noteFault(peer);
  }

  /** After a body that breaks, the rest is requested elsewhere. */
  async *#untilBroken(
    { body, range }: BlobResponse,
    peer: SeenMember,
    share: Share,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer, void, undefined> {
    let missingBytes = rangeLength(range);
    try {
      for await (const bytes of body) {
        missingBytes -= bytes.byteLength;
        yield bytes;
      }
    } catch (error) {
      // The fill aborts what is not needed, and what is too slow.
      const isNeeded = !signal.aborted || isSpandrelError(signal.reason, 'UPSTREAM_TIMEOUT');
      if (isNeeded && missingBytes > 0) {
        this.#deps.events.replicas.peerResponded('broken');
        this.#giveUp(peer, share, 'broken');
      }
      throw error;
    }
  }

  async #lookAt(peer: SeenMember, blob: TierBlob, quietLooks: number): Promise<LifeSign> {
    const state = await this.#deps.leases.look(leaseName(blob));
    if (state === undefined) return 'unknown';
    const isAtWork = state.worker === peer.id && state.silentMs < SILENCE_MS && quietLooks < HEAD_LOOKS;
    const isHolder =
      state.worker === undefined && state.holders.includes(peer.id) && quietLooks < MAX_QUIET_LOOKS;
    if (!isAtWork && !isHolder) return 'silent';
    return quietLooks < LINK_LOOKS || (await this.#links.responds(peer)) ? 'alive' : 'silent';
  }

  ended(blob: TierBlob, outcome: TierOutcome): void {
    const name = leaseName(blob);
    const share = this.#shares.get(name);
    if (share === undefined) return;
    this.#shares.delete(name);
    const how = outcome === 'complete' ? 'done' : 'undone';
    if (share.lease !== undefined) this.#end(share.lease.end(how));
    else if (how === 'done') this.#end(this.#deps.leases.end(name, undefined, 'done'));
    if (outcome === 'wrong' && share.peer !== undefined) this.#links.noteFault(share.peer);
  }

  #end(work: Promise<void>): void {
    const ending = work.finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  /** Takes no new leases. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Another replica has got bytes from this one. */
  noteSent(): void {
    this.#sentMs = steadyNow();
  }

  /**
   * Before {@link leave}: ends the running requests to the upstream and begins no new ones, so that nothing
   * is fetched twice. Returns when the others read nothing more from this replica.
   * @param ms longest time
   */
  async finish(ms: number): Promise<void> {
    this.drain();
    this.#leaving ??= Promise.withResolvers<void>();
    const beganMs = steadyNow();
    const isBusy = (): boolean => {
      const isReading = [...this.#shares.values()].some(({ isOwn, reads }) => isOwn && reads > 0);
      return isReading || steadyNow() - this.#sentMs < QUIET_MS;
    };
    while (this.#deps.members.count > 1 && isBusy() && steadyNow() - beganMs < ms)
      await sleep(FINISH_LOOK_MS);
  }

  /**
   * Hands the leases over: others take them with their next request, and have the rest of the blobs then, for
   * running fills of this replica too.
   */
  async leave(): Promise<void> {
    this.drain();
    this.#hasLeft = true;
    for (const share of this.#shares.values()) {
      share.isOwn = false;
      if (share.lease !== undefined) this.#end(share.lease.end('undone'));
      share.lease = undefined;
    }
    this.#leaving?.resolve();
    await Promise.all(this.#ending);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
    await this.#deps.client[Symbol.asyncDispose]();
  }
}

function leaseName({ upstream, digest }: Pick<TierBlob, 'upstream' | 'digest'>): string {
  return `blob:${upstream}:${digest}`;
}
