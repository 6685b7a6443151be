import { BoundedMap } from '../../cache/bounded-map.ts';
import type { CacheHit } from '../../cache/byte-cache.ts';
import { isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';
import { LONGEST_PROOF_MS } from './proof-table.ts';

/** Records that outlive replicas. */
export interface LastingRecords {
  get(key: string): Promise<CacheHit | undefined>;
  /**
   * Reads a record and writes what `change` makes of it, in the background, once the store allows; nothing if
   * that is `undefined`. `change` may be called again after a failure.
   */
  update(key: string, change: (bytes: Uint8Array | undefined) => Uint8Array | undefined): Promise<void>;
}

export interface LastingProofsDeps {
  readonly records: LastingRecords;
  /** How long a proof is valid. */
  readonly lifetimeMs: number;
  readonly delays?: LastingProofsDelays;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

export interface LastingProofsDelays {
  /** Proofs that come together are written together. */
  readonly firstMs: number;
  /** Then it is made sure that no other replica has overwritten them meanwhile. */
  readonly againMs: number;
}

/** What an upstream has said. */
interface Change {
  readonly isProven: boolean;
  readonly atMs: number;
  /** It has been written once. */
  readonly isAgain?: boolean;
}

type Proofs = ReadonlyMap<string, number>;
type Changes = Map<string, Change>;

const KEY_PREFIX = 'proofs:1:';
const DELAYS: LastingProofsDelays = { firstMs: 3_000, againMs: 60_000 };
/** Of one repository: the newest. The record has about 90 bytes for each. */
const MAX_PROOFS = 2_000;
/** Changes that wait, of all repositories. What is more is asked for again. */
const MAX_WAITING = 50_000;
/** However short the lifetime is, a repository costs a request a minute at most. */
const LEAST_RENEWAL_MS = 60_000;
const MAX_AGAIN = 2_000;
const MAX_SEEN_BYTES = 16 * 2 ** 20;
const PROOF_BYTES = 200;
/** A record is not read again so soon. */
const SEEN_MS = 10_000;

/**
 * What the upstream proved to any replica, in the store that outlives them: one record for a repository,
 * written about twice in the lifetime of a proof. Replicas that write at the same time may lose a proof,
 * which costs a request to the upstream.
 */
export class LastingProofs implements Disposable {
  readonly #deps: LastingProofsDeps;
  readonly #delays: LastingProofsDelays;
  readonly #now: () => number;
  readonly #seen = new BoundedMap<{ readonly proofs: Proofs; readonly atMs: number }>({
    maxBytes: MAX_SEEN_BYTES,
    sizeOf: ({ proofs }) => (proofs.size + 1) * PROOF_BYTES,
  });
  readonly #reading = new Map<string, Promise<Proofs>>();
  readonly #waiting = new Map<string, Changes>();
  /** Repositories whose changes are about to be written. */
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #writing = new Set<string>();
  readonly #again = new Set<NodeJS.Timeout>();
  #changes = 0;
  #isClosed = false;

  constructor(deps: LastingProofsDeps) {
    this.#deps = deps;
    this.#delays = deps.delays ?? DELAYS;
    this.#now = deps.now ?? steadyNow;
  }

  /** When the upstream last proved that the repository has the blob or manifest, however long ago. */
  async find(repository: string, digest: string): Promise<number | undefined> {
    const seen = this.#seen.get(repository);
    const known = seen?.proofs.get(digest);
    const isRecent = seen !== undefined && this.#now() - seen.atMs < SEEN_MS;
    if (isRecent || (known !== undefined && this.#now() - known < this.#deps.lifetimeMs)) return known;
    const reading = this.#reading.get(repository) ?? this.#read(repository);
    this.#reading.set(repository, reading);
    try {
      return (await reading).get(digest);
    } finally {
      this.#reading.delete(repository);
    }
  }

  /** The upstream has just proven it. */
  note(repository: string, digest: string, atMs: number): void {
    const known = this.#seen.get(repository)?.proofs.get(digest);
    this.#add(repository, digest, { isProven: true, atMs });
    if (this.#isWorthWriting(known, atMs)) this.#writeSoon(repository);
  }

  /** The upstream refused. */
  forget(repository: string, digest: string): void {
    this.#add(repository, digest, { isProven: false, atMs: this.#now() });
    this.#writeSoon(repository);
  }

  /** Renewals of younger proofs are written together with others only. */
  #isWorthWriting(known: number | undefined, atMs: number): boolean {
    return known === undefined || atMs - known >= Math.max(this.#deps.lifetimeMs / 2, LEAST_RENEWAL_MS);
  }

  #add(repository: string, digest: string, change: Change): void {
    const changes: Changes = this.#waiting.get(repository) ?? new Map<string, Change>();
    const isNew = !changes.has(digest);
    if (isNew && (this.#changes >= MAX_WAITING || changes.size >= MAX_PROOFS)) return;
    if (isNew) this.#changes++;
    changes.set(digest, change);
    this.#waiting.set(repository, changes);
  }

  #writeSoon(repository: string): void {
    if (this.#timers.has(repository) || !this.#waiting.has(repository) || this.#isClosed) return;
    const write = (): void => void this.#write(repository);
    this.#timers.set(repository, setTimeout(write, this.#delays.firstMs).unref());
  }

  async #write(repository: string): Promise<void> {
    clearTimeout(this.#timers.get(repository));
    this.#timers.delete(repository);
    const changes = this.#waiting.get(repository);
    if (changes === undefined) return;
    // Writes of one record follow each other.
    if (this.#writing.has(repository)) return this.#writeSoon(repository);
    this.#waiting.delete(repository);
    this.#changes -= changes.size;
    this.#writing.add(repository);
    await this.#deps.records.update(KEY_PREFIX + repository, (bytes) =>
      this.#merge(repository, bytes, changes),
    );
    this.#writing.delete(repository);
    this.#writeAgain(repository, changes);
  }

  #writeAgain(repository: string, changes: Changes): void {
    const firstOnes = [...changes].filter(([, { isAgain }]) => !isAgain);
    if (firstOnes.length === 0 || this.#isClosed || this.#again.size >= MAX_AGAIN) return;
    const timer = setTimeout(() => {
      this.#again.delete(timer);
      for (const [digest, change] of firstOnes)
        if (this.#waiting.get(repository)?.has(digest) !== true)
          this.#add(repository, digest, { ...change, isAgain: true });
      this.#writeSoon(repository);
    }, this.#delays.againMs).unref();
    this.#again.add(timer);
  }

  #merge(repository: string, bytes: Uint8Array | undefined, changes: Changes): Uint8Array | undefined {
    const proofs = new Map(this.#parse(bytes));
    let isWorthIt = false;
    for (const [digest, { isProven, atMs }] of changes) {
      const known = proofs.get(digest);
      if (isProven && this.#isWorthWriting(known, atMs)) isWorthIt = true;
      if (isProven) proofs.set(digest, Math.max(atMs, known ?? 0));
      else if (known !== undefined && known <= atMs) isWorthIt = proofs.delete(digest);
    }
    this.#seen.set(repository, { proofs, atMs: this.#now() });
    if (!isWorthIt) return undefined;
    const newest = [...proofs].toSorted(([, a], [, b]) => b - a).slice(0, MAX_PROOFS);
    return Buffer.from(JSON.stringify(Object.fromEntries(newest)));
  }

  async #read(repository: string): Promise<Proofs> {
    const hit = await this.#deps.records.get(KEY_PREFIX + repository);
    const proofs = this.#parse(hit?.bytes);
    this.#seen.set(repository, { proofs, atMs: this.#now() });
    return proofs;
  }

  #parse(bytes: Uint8Array | undefined): Proofs {
    const json = bytes && tryParseJson(Buffer.from(bytes).toString());
    const proofs = new Map<string, number>();
    if (!isJsonObject(json)) return proofs;
    const nowMs = this.#now();
    for (const [digest, atMs] of Object.entries(json))
      if (isDigest(digest) && typeof atMs === 'number' && sharedAgeMs(atMs, nowMs) < LONGEST_PROOF_MS)
        proofs.set(digest, Math.min(atMs, nowMs));
    return proofs;
  }

  /** Gives what waits to the records, which write it as long as they are open. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const timer of this.#again) clearTimeout(timer);
    for (const repository of this.#timers.keys()) void this.#write(repository);
  }
}
