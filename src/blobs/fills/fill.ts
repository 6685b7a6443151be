import type { ByteRange } from '../../core/byte-range.ts';
import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { BlobSource } from '../../core/sources/blob-source.ts';
import type { BlobTier } from '../../core/sources/blob-tier.ts';
import { ChunkFetches, type FirstResponse } from './chunk-fetches.ts';
import { ChunkMap } from './chunk-map.ts';
import type { FillSources } from './fill-sources.ts';
import { corruptBySource } from './source-fault.ts';
import { type Demand, Demands } from '../reads/demands.ts';
import type { DigestPool } from '../verification/digest-pool.ts';
import { Growth } from '../files/growth.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { isPassingFault } from '../files/store-fault.ts';
import type { StoredPiece } from '../files/stored-piece.ts';

export interface FillOptions {
  readonly digest: Digest;
  readonly sources: FillSources;
  readonly file: PartialFile;
  readonly sizeBytes: number;
  /** Pieces of an earlier fill in the file. */
  readonly pieces: readonly StoredPiece[];
  readonly first: FirstResponse | undefined;
  readonly parallel: number;
  readonly chunkBytes: number;
  readonly stallTimeoutMs: number;
  readonly digests: DigestPool;
  /** Reserves room for bytes of a fill that need not become complete. */
  readonly reserve: (bytes: number) => Promise<void>;
}

/**
 * Bytes at the end that are withheld from readers of the whole blob until the digest is verified, so that a
 * corrupt blob never ends cleanly.
 */
const HELD_BACK_BYTES = 64 * 1024;

/** Fetches one blob, or the parts that readers want, into a file. */
export class Fill {
  /** Complete when the digest is verified. */
  readonly growth = new Growth();
  readonly #options: FillOptions;
  readonly #chunks: ChunkMap;
  readonly #fetches: ChunkFetches;
  readonly #demands = new Demands();
  /** Growth for the digest: complete when all bytes have arrived. */
  readonly #arrived = new Growth();
  #isVerified = false;
  #isWithheld = false;
  #mustComplete: boolean;
  #failure: Error | undefined;
  #refutation: SpandrelError | undefined;

  /** @param mustComplete fetch the whole blob, whatever readers want */
  constructor(options: FillOptions, mustComplete: boolean) {
    const { sources: source, file, parallel, stallTimeoutMs, reserve } = options;
    this.#options = options;
    this.#mustComplete = mustComplete;
    this.#chunks = new ChunkMap(options.sizeBytes, options.chunkBytes, options.pieces);
    this.#fetches = new ChunkFetches(
      {
        source,
        file,
        chunks: this.#chunks,
        parallel,
        stallTimeoutMs,
        wanted: () => this.#demands.wanted(),
        reserve,
        withhold: () => this.#withhold(),
        onArrival: () => this.#announce(),
      },
      mustComplete,
    );
  }

  /** Bytes of the blob in the file. */
  get heldBytes(): number {
    return this.#chunks.heldBytes;
  }

  get mustComplete(): boolean {
    return this.#mustComplete;
  }

  /** No reader sees any byte before the whole blob is verified, and no later fill resumes the file. */
  get isWithheld(): boolean {
    return this.#isWithheld;
  }

  /** As {@link FillSources.tier}. */
  get tier(): BlobTier['name'] | undefined {
    return this.#options.sources.tier;
  }

  /** Adds another repository that should have the blob. */
  addSource(source: BlobSource): void {
    this.#options.sources.add(source);
  }

  /** Makes the fill complete its blob. Room for the missing bytes is reserved. */
  completeToo(): void {
    this.#mustComplete = true;
    this.#fetches.fetchAll();
  }

  /**
   * Fetches and verifies the blob.
   * @returns true if the blob is complete and verified, false after {@link stop}
   * @throws SpandrelError BLOB_CORRUPT, UPSTREAM_*, BLOB_UNKNOWN, STORE_*; the error given to {@link stop}
   */
  async run(): Promise<boolean> {
    const { digest, file, digests, first } = this.#options;
    const leaving = new AbortController();
    const hash = (): Promise<Digest> =>
      digests.hash(file.path, this.#arrived, digestAlgorithm(digest), leaving.signal);
    const hashing = hash();
    hashing.catch(() => undefined);
    try {
      await this.#fetches.run(first);
      if (!this.#chunks.isComplete) {
        leaving.abort();
        return false;
      }
      this.#arrived.finish('complete');
      // The failure that stopped hashing during the fill may have passed.
      const actual = await hashing.catch((error: unknown) => {
        if (!isPassingFault(error)) throw error;
        return hash();
      });
      if (actual !== digest)
        throw new SpandrelError('BLOB_CORRUPT', `the upstream sent ${actual} for ${digest}`);
      this.#isVerified = true;
      return true;
    } catch (error) {
      leaving.abort();
      const { sources } = this.#options;
      const failure = corruptBySource(error, (repositoryKey) => sources.isOnlyFrom(repositoryKey));
      if (isSpandrelError(failure, 'BLOB_CORRUPT')) this.#refutation = failure;
      throw failure;
    } finally {
      if (this.#arrived.state === 'growing') this.#arrived.finish('failed');
    }
  }

  /** Pauses the requests until there is a reader again. @returns false if the fill cannot be paused */
  pause(): boolean {
    return this.#fetches.pause();
  }

  /** Aborts the requests. A later fill can resume. */
  stop(error?: Error): void {
    this.#fetches.stop(error);
  }

  /** The blob is in its place: releases its end to readers. */
  complete(): void {
    this.growth.advance(this.#chunks.prefixEnd);
    this.growth.finish('complete');
    this.#demands.announce();
  }

  fail(error: Error): void {
    this.#failure ??= error;
    if (this.growth.state === 'growing') this.growth.finish('failed');
    this.#demands.fail(error);
  }

  /**
   * Registers a range that will be read. Its missing bytes are fetched first, until the demand is disposed
   * of.
   */
  demand(range: ByteRange): Demand {
    const demand = { ...range, isWhole: range.start === 0 && range.end === this.#options.sizeBytes };
    this.#demands.add(demand);
    return demand;
  }

  drop(demand: Demand): void {
    this.#demands.remove(demand);
  }

  /** @throws SpandrelError BLOB_CORRUPT if the arrived bytes are known not to match the digest */
  assertSound(): void {
    if (this.#refutation !== undefined) throw this.#refutation;
  }

  /** The error that shows that the arrived bytes do not match the digest. */
  get refutation(): SpandrelError | undefined {
    return this.#refutation;
  }

  /**
   * End of the readable bytes from the start of the demand; resolves when there is at least one. @throws the
   * error of the fill
   */
  async waitFor(demand: Demand, signal: AbortSignal | undefined): Promise<number> {
    const isThere = (): boolean => this.#readableEnd(demand) > demand.start;
    this.assertSound();
    while (!isThere()) {
      if (this.#failure !== undefined) throw this.#failure;
      const arrival = this.#demands.wait(isThere, signal);
      this.#fetches.hurry(demand.start);
      await arrival;
    }
    return this.#readableEnd(demand);
  }

  #readableEnd({ start, end, isWhole }: Demand): number {
    if (this.#isWithheld && !this.#isVerified) return start;
    const isHeldBack = isWhole && !this.#isVerified;
    const limit = isHeldBack ? Math.min(end, this.#options.sizeBytes - HELD_BACK_BYTES) : end;
    return limit <= start ? start : this.#chunks.availableEnd(start, limit);
  }

  /** This cannot be undone: a process that resumes the file would not know that its bytes are unproven. */
  async #withhold(): Promise<void> {
    this.#isWithheld = true;
    await this.#options.file.forgetPieces();
  }

  #announce(): void {
    const { prefixEnd } = this.#chunks;
    if (!this.#isWithheld) this.growth.advance(prefixEnd);
    this.#arrived.advance(prefixEnd);
    this.#demands.announce();
  }
}
