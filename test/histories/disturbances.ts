import type { ErrorCode } from '../../src/core/errors.ts';
import type { UpstreamFault } from './history.ts';

/** Faults since the last rest. */
export type Disturbance =
  | UpstreamFault['kind']
  | 'denied'
  | 'missing'
  | 'throttled'
  | 'failing'
  | 'fullDisk'
  | 'fewDescriptors'
  | 'ended'
  | 'smallStore'
  | 'rot'
  | 'lostRecords'
  | 'otherRules';

const BROKEN: readonly ErrorCode[] = [
  'UPSTREAM_UNREACHABLE',
  'UPSTREAM_PROTOCOL',
  'UPSTREAM_TIMEOUT',
  'BLOB_CORRUPT',
];
const UNREADABLE: readonly ErrorCode[] = [
  'LAYER_CORRUPT',
  'LAYER_UNSUPPORTED',
  'TAR_INVALID',
  'TAR_UNSUPPORTED',
];
const ROOM: readonly ErrorCode[] = ['STORE_FULL', 'STORE_FAILED', 'OVERLOADED'];

/** Error codes that each fault may cause. Any other one is a finding. */
const CODES: Readonly<Record<Disturbance, readonly ErrorCode[]>> = {
  status: [],
  denied: ['UPSTREAM_CREDENTIALS_REFUSED', 'DENIED', 'UNAUTHORIZED'],
  missing: ['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'PLATFORM_UNKNOWN'],
  throttled: ['UPSTREAM_THROTTLED'],
  failing: BROKEN,
  reset: BROKEN,
  stall: BROKEN,
  hold: BROKEN,
  truncate: BROKEN,
  // A range may lie outside of the size that the upstream says.
  length: [...BROKEN, 'RANGE_INVALID'],
  corrupt: [...BROKEN, ...UNREADABLE, 'SPAN_CORRUPT', 'IMAGE_UNSUPPORTED', 'FILE_UNKNOWN'],
  fullDisk: ROOM,
  fewDescriptors: [...ROOM, 'UPSTREAM_UNREACHABLE', 'WORKER_FAILED'],
  ended: ['SHUTTING_DOWN'],
  smallStore: ROOM,
  rot: ['BLOB_CORRUPT', 'SPAN_CORRUPT', 'STORE_FAILED'],
  lostRecords: ['SPAN_CORRUPT', 'INDEX_MALFORMED', 'STORE_FAILED'],
  otherRules: [],
};

/** The response asks for a retry, or the registry is slow on a busy machine; not a finding. */
const ALWAYS: readonly ErrorCode[] = ['INDEX_PENDING', 'ANSWER_PENDING', 'UPSTREAM_TIMEOUT'];
/** Routes that need the store; most pulls do not. */
const NEEDS_STORE = /\/_soci\//;

export function disturbanceOf(fault: UpstreamFault): Disturbance {
  if (fault.kind !== 'status') return fault.kind;
  if (fault.status === 401 || fault.status === 403) return 'denied';
  if (fault.status === 404) return 'missing';
  return fault.status === 429 ? 'throttled' : 'failing';
}

export interface DisturbancesOptions {
  readonly pullsNeedStore: boolean;
  readonly upstreamBlobs: ReadonlySet<string>;
}

/** Decides which wrong responses the faults so far explain. */
export class Disturbances {
  readonly #pullsNeedStore: boolean;
  readonly #upstreamBlobs: ReadonlySet<string>;
  readonly #since = new Set<Disturbance>();
  /** Digests of blobs that a replica may have received wrong and not verified yet. */
  readonly #unverified = new Set<string>();
  /** Digests of stored blobs whose files changed. */
  readonly #rotten = new Set<string>();
  #isIndexed = false;

  /**
   * @param options.pullsNeedStore blobs come from an address of which nothing is served before it is stored
   * and verified
   * @param options.upstreamBlobs their digests
   */
  constructor({ pullsNeedStore, upstreamBlobs }: DisturbancesOptions) {
    this.#pullsNeedStore = pullsNeedStore;
    this.#upstreamBlobs = upstreamBlobs;
  }

  note(disturbance: Disturbance): void {
    this.#since.add(disturbance);
  }

  /** Call when a replica gets wrong bytes or a wrong size for a blob. */
  noteUnverified(digest: string): void {
    this.#unverified.add(digest);
  }

  /** Call when the file of a stored blob changes. */
  noteRotten(digest: string): void {
    this.#rotten.add(digest);
  }

  /** All blobs except these are verified. */
  keepUnverified(digests: ReadonlySet<string>): void {
    for (const digest of this.#unverified) if (!digests.has(digest)) this.#unverified.delete(digest);
  }

  has(disturbance: Disturbance): boolean {
    return this.#since.has(disturbance);
  }

  /** Every layer has been read. Blobs stay unverified: see {@link keepUnverified}. */
  clear(): void {
    this.#since.clear();
    this.#rotten.clear();
    this.#isIndexed = true;
  }

  excusesCode(code: ErrorCode, path: string): boolean {
    if (ALWAYS.includes(code)) return true;
    // A manifest whose bytes and origin are lost is made again only under the rules that it was made by.
    if (code === 'MANIFEST_UNKNOWN' && this.has('lostRecords') && this.has('otherRules')) return true;
    return [...this.#since].some((disturbance) => {
      if (!CODES[disturbance].includes(code)) return false;
      const isOfStore = disturbance === 'fullDisk' || disturbance === 'smallStore';
      return !isOfStore || NEEDS_STORE.test(path) || this.#isBlobThatNeedsStore(path);
    });
  }

  /** A zTOC that the store has lost is built again, which needs room for an index. */
  #isBlobThatNeedsStore(path: string): boolean {
    const [, digest] = /\/blobs\/(.*)$/.exec(path) ?? [];
    if (digest === undefined) return false;
    return this.#pullsNeedStore || (this.#since.has('lostRecords') && !this.#upstreamBlobs.has(digest));
  }

  /** A body shorter than its announced length. */
  get excusesCuts(): boolean {
    return [...this.#since].some((disturbance) => disturbance !== 'smallStore');
  }

  get excusesNoAnswer(): boolean {
    return this.#since.has('ended') || this.#since.has('fewDescriptors');
  }

  /**
   * A verified blob whose file changes later is served as it is until the scrub finds it.
   * @param blobs whose bytes are sent as they are stored
   */
  excusesRot(blobs: readonly string[]): boolean {
    return blobs.some((digest) => this.#rotten.has(digest));
  }

  /**
   * Decompressed bytes are checked against the index of their layer. Without an index, they are sent during
   * its build, and only the end shows whether the blob is right.
   */
  excusesRotWithoutIndex(layers: readonly string[]): boolean {
    const mayLackIndexes =
      !this.#isIndexed || this.#since.has('lostRecords') || this.#since.has('smallStore');
    return mayLackIndexes && this.excusesRot(layers);
  }

  /**
   * The first reader of a range may get it before the whole blob is verified.
   * @param blobs that the range comes from
   */
  excusesUnverified(blobs: readonly string[]): boolean {
    return blobs.some((digest) => this.#unverified.has(digest));
  }
}
