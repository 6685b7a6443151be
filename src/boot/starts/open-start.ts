import type { Digest } from '../../core/digest.ts';
import { LowestGap } from './lowest-gap.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { RangeRead } from './range-read.ts';
import type { Start, StartEnd } from './start.ts';
import { WalkWatch } from './walk-watch.ts';

interface OpenBlob {
  readonly layer: Digest;
  readonly gap: LowestGap;
  /** Where the ranges begin that were read. A node reads each span once. */
  readonly starts: Set<number>;
}

/** A node reads no more spans of a start than these: 1 GiB in spans of 256 KiB. */
const MAX_READS = 4096;
const MAX_BLOBS = 256;
const MAX_CONNECTIONS = 256;

/** A start that may go on. */
export class OpenStart {
  readonly beganMs: number;
  readonly #beganAtMs: number;
  readonly #repository: string;
  readonly #blobs = new Map<Digest, OpenBlob>();
  readonly #connections = new Set<number>();
  readonly #walk: WalkWatch;
  #reads: RangeRead[] = [];
  #lastMs: number;
  #isCut = false;

  /** @param beganAtMs when `probe` came, as `steadyNow` */
  constructor(probe: RangeRead, beganAtMs: number) {
    this.beganMs = probe.atMs;
    this.#lastMs = probe.atMs;
    this.#beganAtMs = beganAtMs;
    this.#repository = probe.repository;
    this.#walk = new WalkWatch(probe.atMs);
    this.mount(probe);
  }

  /** When the node asked for something last. */
  get lastMs(): number {
    return this.#lastMs;
  }

  get readCount(): number {
    return this.#reads.length;
  }

  has(connection: number): boolean {
    return this.#connections.has(connection);
  }

  hasMounted(digest: Digest): boolean {
    return this.#blobs.has(digest);
  }

  hasReadOf(digest: Digest): boolean {
    return (this.#blobs.get(digest)?.starts.size ?? 0) > 0;
  }

  /** True if the node has mounted the blob and lacks the range. */
  lacks({ digest, range }: RangeRead): boolean {
    return this.#blobs.get(digest)?.starts.has(range.start) === false;
  }

  mount(probe: RangeRead): void {
    const { digest, layer, atMs } = probe;
    this.#touch(probe);
    this.#walk.noteMount(atMs);
    if (!this.#blobs.has(digest) && this.#blobs.size < MAX_BLOBS)
      this.#blobs.set(digest, { layer, gap: new LowestGap(), starts: new Set() });
  }

  /** @returns true if the node's background fetcher has begun: its reads are not of the start */
  read(read: RangeRead): boolean {
    const { digest, range, atMs } = read;
    this.#touch(read);
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return false;
    if (this.#reads.length >= MAX_READS) {
      this.#isCut = true;
      return false;
    }
    blob.starts.add(range.start);
    this.#reads.push(read);
    return this.#cutWalk(this.#walk.note(blob.gap.fill(range), atMs));
  }

  #touch({ connection, atMs }: RangeRead): void {
    this.#lastMs = atMs;
    if (this.#connections.size < MAX_CONNECTIONS) this.#connections.add(connection);
  }

  #cutWalk(beganMs: number | undefined): boolean {
    if (beganMs === undefined) return false;
    this.#reads = this.#reads.filter(({ atMs }) => atMs < beganMs);
    return true;
  }

  finish(end: StartEnd, servedPaths: readonly RawText[]): Start {
    if (end !== 'walk') this.#cutWalk(this.#walk.end());
    return {
      repository: this.#repository,
      beganAtMs: this.#beganAtMs,
      mounted: Array.from(this.#blobs, ([digest, { layer }]) => ({ digest, layer })),
      reads: this.#reads,
      isCut: this.#isCut,
      end,
      servedPaths,
    };
  }
}
