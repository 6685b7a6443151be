import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { Reading } from '../../spans/reading.ts';
import type { SpanFetcher } from '../../spans/span-fetcher.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Target } from '../../upstream/target.ts';
import type { ReadSpan } from '../../ztoc/span.ts';
import { type BootProfiles, isLearned, type ProfiledFile } from '../boot-profile.ts';
import type { RangeRead } from '../starts/range-read.ts';
import type { LayerProbe } from '../starts/start-watch.ts';
import { WarmedSpans } from './warmed-spans.ts';

export interface ProfileWarmerDeps {
  readonly profiles: BootProfiles;
  /** A layer of a repository that has it. */
  readonly open: (target: Target, layer: Digest, signal: AbortSignal) => Promise<OpenedLayer>;
  readonly fetcher: Pick<SpanFetcher, 'fetch'>;
  readonly beginReading: (fairnessKey: string, signal: AbortSignal) => Reading;
  /** Most bytes in memory that no node has requested yet, for all nodes together. */
  readonly maxBytes: number;
  readonly events: Events;
  readonly logger: Logger;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

export interface OpenedLayer {
  readonly layer: AuthorizedLayer;
  readonly index: LayerIndexView;
}

/** A node that mounts a layer. */
interface Node {
  readonly address: string;
  readonly signal: AbortSignal;
  /** When it requested something last. */
  lastMs: number;
}

const MIN_START_SHARE = 0.5;
/** Of other files, it is unknown which part a start wants. */
const MIN_READ_SHARE = 0.5;
const MAX_RUNNING = 2;
const MAX_WAITING = 16;
/** Spans are fetched in runs, so that nodes' own reads come between. */
const RUN_BYTES = 2 ** 20;
const KEEP_MS = 60_000;
/** A node asks for the first span of a layer a second after it has mounted it. */
const GONE_MS = 10_000;
/** If the first bytes are all in memory, so are the others: another node has started a moment ago. */
const ENOUGH_KNOWN_BYTES = 2 ** 20;
const FAIRNESS_KEY = 'boot profile';

/**
 * When a node mounts the tar of a layer, reads ahead what most starts of its repository read of it, in the
 * order of first touch, into the span cache. Stops when the node is gone or the spans are in memory already.
 */
export class ProfileWarmer implements AsyncDisposable {
  readonly #deps: ProfileWarmerDeps;
  readonly #now: () => number;
  readonly #warmed = new WarmedSpans(KEEP_MS);
  readonly #queue = new WorkQueue({ maxRunning: MAX_RUNNING, maxWaiting: MAX_WAITING });
  readonly #nodes = new Set<Node>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(deps: ProfileWarmerDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? ((): number => performance.now());
  }

  /** Call when a node is about to mount a layer. Does not wait. */
  warm({ target, digest, layer, address }: LayerProbe): void {
    this.#expire();
    // Spans of compressed layers are served as they are stored.
    if (digest === layer || this.#warmed.has(layer) || this.#stopping.signal.aborted) return;
    this.#warmed.begin(layer, this.#now());
    const node: Node = { address, signal: this.#stopping.signal, lastMs: this.#now() };
    this.#nodes.add(node);
    const running = this.#queue
      .run(() => this.#warm(target, layer, node), undefined, address)
      .catch((error: unknown) => this.#noteFailure(error))
      .finally(() => {
        this.#nodes.delete(node);
        this.#running.delete(running);
      });
    this.#running.add(running);
  }

  /** Call for each read of a node. */
  noteRead({ layer, digest, range, address, atMs }: RangeRead): void {
    for (const node of this.#nodes) if (node.address === address) node.lastMs = atMs;
    if (digest === layer) return;
    this.#expire();
    const used = this.#warmed.read(layer, range);
    if (used > 0) this.#deps.events.profileWarmed('read', used);
  }

  /** Resolves when nothing is read ahead any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  #expire(): void {
    const wasted = this.#warmed.expire(this.#now());
    if (wasted > 0) this.#deps.events.profileWarmed('unread', wasted);
  }

  async #warm(target: Target, layer: Digest, node: Node): Promise<void> {
    const profile = await this.#deps.profiles.read(target);
    if (!isLearned(profile)) return;
    const files = profile.files.filter(isWanted);
    if (files.length === 0) return;
    const opened = await this.#deps.open(target, layer, node.signal);
    const reading = this.#deps.beginReading(FAIRNESS_KEY, node.signal);
    let knownBytes = 0;
    for await (const run of runsOf(files, opened.index, node.signal)) {
      if (this.#warmed.bytes >= this.#deps.maxBytes || this.#now() - node.lastMs > GONE_MS) return;
      const fetched = await Promise.all(this.#deps.fetcher.fetch(opened.layer, opened.index, run, reading));
      const isNew = fetched.some(({ source }) => source !== 'memory');
      for (const { span, source } of fetched)
        if (source !== 'memory') this.#warmed.add(layer, span.uncompressed);
      knownBytes = isNew ? Number.NEGATIVE_INFINITY : knownBytes + bytesOf(run);
      if (knownBytes >= ENOUGH_KNOWN_BYTES) return;
    }
  }

  /** No node has asked for these bytes yet; one that does gets the error. */
  #noteFailure(error: unknown): void {
    if (isSpandrelError(error) || this.#stopping.signal.aborted) return;
    this.#deps.logger.warn({ err: error }, 'a boot profile cannot be read ahead');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.settled();
  }
}

function isWanted({ startShare, readShare, bytes }: ProfiledFile): boolean {
  return startShare > MIN_START_SHARE && readShare >= MIN_READ_SHARE && bytes > 0;
}

/** The spans of files that the layer has, each once, in runs. */
async function* runsOf(
  files: readonly ProfiledFile[],
  index: LayerIndexView,
  signal: AbortSignal,
): AsyncGenerator<readonly ReadSpan[], void, void> {
  const seen = new Set<number>();
  let run: ReadSpan[] = [];
  for (const { path } of files) {
    const entry = await index.findFile(path, signal);
    if (entry?.type !== 'reg') continue;
    const { uncompressedOffset: start, uncompressedSize: bytes } = entry;
    for (let at = start; at < start + bytes;) {
      const spans = await index.readSpans(
        { start: at, end: Math.min(start + bytes, at + RUN_BYTES) },
        signal,
      );
      const last = spans.at(-1);
      if (last === undefined || last.uncompressed.end <= at) break;
      at = last.uncompressed.end;
      run.push(...spans.filter(({ uncompressed }) => !seen.has(uncompressed.start)));
      for (const { uncompressed } of spans) seen.add(uncompressed.start);
      if (bytesOf(run) < RUN_BYTES) continue;
      yield run;
      run = [];
    }
  }
  if (run.length > 0) yield run;
}

function bytesOf(spans: readonly ReadSpan[]): number {
  return spans.reduce((sum, { uncompressed }) => sum + uncompressed.end - uncompressed.start, 0);
}
