import type { ByteRange } from '../../core/byte-range.ts';
import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { BlobSource } from '../../upstream/blobs/blob-source.ts';
import type { AlternativeSources } from './alternative-sources.ts';
import { ChunkFetches, type FirstAnswer } from './chunk-fetches.ts';
import { ChunkMap } from './chunk-map.ts';
import { corruptBySource } from './source-fault.ts';
import { type Demand, Demands } from '../reads/demands.ts';
import type { DigestPool } from '../verification/digest-pool.ts';
import { Growth } from '../files/growth.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { isPassingFault } from '../files/store-fault.ts';
import type { StoredPiece } from '../files/stored-piece.ts';

export interface FillOptions {
  readonly digest: Digest;
  readonly sources: AlternativeSources;
  readonly file: PartialFile;
  readonly sizeBytes: number;
  /** What an earlier fill has left in the file. */
  readonly pieces: readonly StoredPiece[];
  readonly first: FirstAnswer | undefined;
  readonly parallel: number;
  readonly chunkBytes: number;
  readonly stallTimeoutMs: number;
  readonly digests: DigestPool;
  /** Keeps room for bytes of a fill that need not become whole. */
  readonly reserve: (bytes: number) => Promise<void>;
}

/** Withheld until the digest has been verified from those who read the whole blob, so that nobody sees a corrupt one end cleanly. */
const HELD_BACK_BYTES = 64 * 1024;

/** Brings one blob, or what readers want of it, into a file. */
export class Fill {
  /** Complete once the digest has been verified. */
  readonly growth = new Growth();
  readonly #options: FillOptions;
  readonly #chunks: ChunkMap;
  readonly #fetches: ChunkFetches;
  readonly #demands = new Demands();
  /** What the digest is computed from: complete once all bytes are there. */
  readonly #arrived = new Growth();
  #isVerified = false;
  #isWithheld = false;
  #mustComplete: boolean;
  #failure: Error | undefined;
  #refutation: SpandrelError | undefined;

  /** @param mustComplete fetch all of the blob, also what no reader wants */
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

  /** What of the blob is in the file. */
  get heldBytes(): number {
    return this.#chunks.heldBytes;
  }

  get mustComplete(): boolean {
    return this.#mustComplete;
  }

  /** Readers see nothing before the whole blob is verified, and no later fill resumes from what is there. */
  get isWithheld(): boolean {
    return this.#isWithheld;
  }

  /** Another repository that should have the blob. */
  addSource(source: BlobSource): void {
    this.#options.sources.add(source);
  }

  /** Room has been kept for all that is missing. */
  completeToo(): void {
    this.#mustComplete = true;
    this.#fetches.fetchAll();
  }

  /**
   * Fetch and verify.
   * @returns true if the blob is whole and right, false after {@link stop}
   * @throws SpandrelError BLOB_CORRUPT, UPSTREAM_*, BLOB_UNKNOWN, STORE_*; what {@link stop} was given
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
      // What kept it from being hashed while it came may have passed.
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
      const failure = corruptBySource(error, (origin) => sources.isOnlyFrom(origin));
      if (isSpandrelError(failure, 'BLOB_CORRUPT')) this.#refutation = failure;
      throw failure;
    } finally {
      if (this.#arrived.state === 'growing') this.#arrived.finish('failed');
    }
  }

  /** End the requests until somebody reads again. @returns false if the fill cannot wait for that */
  pause(): boolean {
    return this.#fetches.pause();
  }

  /** End the requests; the fill can be gone on with later. */
  stop(error?: Error): void {
    this.#fetches.stop(error);
  }

  /** The blob is in its place: readers get its end. */
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

  /** Say that `range` will be read; until the demand is dropped, what is missing of it is fetched before anything else. */
  demand(range: ByteRange): Demand {
    const demand = { ...range, isWhole: range.start === 0 && range.end === this.#options.sizeBytes };
    this.#demands.add(demand);
    return demand;
  }

  drop(demand: Demand): void {
    this.#demands.remove(demand);
  }

  /** @throws SpandrelError BLOB_CORRUPT once it is known that what has arrived is another blob: nobody may go on with it */
  assertSound(): void {
    if (this.#refutation !== undefined) throw this.#refutation;
  }

  /** The fault that shows that the bytes do not match the digest. */
  get refutation(): SpandrelError | undefined {
    return this.#refutation;
  }

  /** Where the readable bytes from the start of the demand on end; waits until there is one. @throws what the fill failed with */
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

  /** Final: a process that resumes the file would not know that its bytes are unproven. */
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
