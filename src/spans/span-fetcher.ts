import type { BlobReader } from '../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import { readBlobRange } from '../blobs/reads/read-blob-range.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import type { Events } from '../telemetry/events.ts';
import type { ByteSource } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { InflateSpansInput, ReadZstdSpansInput } from './span-worker.ts';
import type { ReadSpan } from '../ztoc/span.ts';
import type { LayerIndexes } from '../layers/layer-indexes.ts';
import type { AuthorizedLayer } from '../layers/layer.ts';
import type * as spanTasks from './span-worker.ts';
import type { Reading } from './reading.ts';
import { type IndexedSpan, type SpanCache, spanKey } from './span-cache.ts';

export interface SpanFetcherDeps {
  readonly blobs: BlobStore;
  /** Replaces damaged indexes. */
  readonly indexes: LayerIndexes;
  readonly cache: SpanCache;
  /** Threads whose entry is `spans/span-worker.ts`. */
  readonly pool: WorkerPool<typeof spanTasks>;
  /** For gzip. */
  readonly engine: EngineName;
  /** As `limits.maxZstdWindowBytes`. */
  readonly maxZstdWindowBytes: number;
  readonly events: Events;
}

/** A decompressed span. */
export interface SpanBytes {
  readonly span: ReadSpan;
  /** Shared with the cache: do not modify. */
  readonly bytes: Uint8Array;
  readonly source: ByteSource;
}

/** The bytes of consecutive spans, and their source. */
interface DecodedSpans {
  readonly parts: readonly Uint8Array[];
  readonly source: ByteSource;
}

/** What spans are read from, through which index, and for whom. */
interface ReadContext {
  readonly layer: AuthorizedLayer;
  readonly index: LayerIndexView;
  readonly reading: Reading;
}

/** A span that this fetch must provide: no other fetch was reading it. */
interface WantedSpan extends PromiseWithResolvers<SpanBytes> {
  readonly span: ReadSpan;
}

/**
 * Gets decompressed spans from the cache, else from the layer's blob. A span is decompressed once for all who
 * want it at the same time. Consecutive spans are read and decompressed together.
 */
export class SpanFetcher implements AsyncDisposable {
  readonly #deps: SpanFetcherDeps;
  readonly #flights: SingleFlight<SpanBytes>;
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(deps: SpanFetcherDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('span', deps.events);
  }

  /**
   * Gets spans.
   * @returns a promise for each span; an unawaited one may fail silently. They reject with SPAN_CORRUPT,
   * INDEX_MALFORMED, RANGE_TOO_COSTLY if the allowance is too small, and errors of fills
   */
  fetch(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    spans: readonly ReadSpan[],
    reading: Reading,
  ): Promise<SpanBytes>[] {
    const wanted: WantedSpan[] = [];
    const found = spans.map((span) => {
      // A failure through one repository must not fail readers of another.
      const key = `${spanKey({ layer: layer.digest, index, span })} ${layer.source.repositoryKey}`;
      let isOwn = false;
      const start = (): Promise<SpanBytes> => {
        isOwn = true;
        const resolvers = Promise.withResolvers<SpanBytes>();
        wanted.push({ span, ...resolvers });
        return resolvers.promise;
      };
      const bytes = this.#flights.run(key, start, reading.signal).catch(async (error: unknown) => {
        // The allowance of another request was too small; this one's may be larger.
        const [again] =
          isSpandrelError(error, 'RANGE_TOO_COSTLY') && !isOwn
            ? this.fetch(layer, index, [span], reading)
            : [];
        if (again === undefined) throw error;
        return again;
      });
      bytes.catch(() => undefined);
      return bytes;
    });
    const providing = this.#provide({ layer, index, reading }, wanted);
    this.#running.add(providing);
    void providing.then(() => this.#running.delete(providing));
    return found;
  }

  /** Settles all wanted spans. */
  async #provide(from: ReadContext, wanted: readonly WantedSpan[]): Promise<void> {
    const missing: WantedSpan[] = [];
    const resolveFromCache = async (one: WantedSpan): Promise<boolean> => {
      const hit = await this.#deps.cache.find(indexedSpan(from, one.span));
      if (hit === undefined) return false;
      one.resolve({ span: one.span, ...hit });
      return true;
    };
    try {
      const hits = await Promise.all(wanted.map(resolveFromCache));
      missing.push(...wanted.filter((_, place) => hits[place] === false));
      await Promise.all(splitIntoRuns(missing).map((run) => this.#provideRun(from, run)));
    } catch (error) {
      for (const { reject } of wanted) reject(error);
    }
  }

  async #provideRun(from: ReadContext, run: readonly WantedSpan[]): Promise<void> {
    try {
      const spans = run.map(({ span }) => span);
      const { parts, source } = await this.#decode(from, spans);
      const stored = run.map(({ span, resolve }, place) => {
        const bytes = parts[place] ?? new Uint8Array(0);
        const kept = this.#deps.cache.keep(indexedSpan(from, span), bytes);
        resolve({ span, bytes, source });
        return kept;
      });
      await Promise.all(stored);
    } catch (error) {
      // A damaged span must not fail its neighbours.
      if (run.length > 1 && isSpandrelError(error, 'SPAN_CORRUPT'))
        await Promise.all(run.map((one) => this.#provideRun(from, [one])));
      else for (const { reject } of run) reject(error);
    }
  }

  async #decode(from: ReadContext, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    const isZstd = from.index.compression === 'zstd';
    const decoded = await this.#decodeWithRepair(from, spans);
    const inflated = decoded.parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const { engine, events } = this.#deps;
    events.spansInflated(isZstd ? 'zstd' : engine, inflated);
    return decoded;
  }

  /**
   * Decodes, and repairs once if that fails: a damaged blob, which its digest reveals, is fetched again; else
   * the index is replaced.
   */
  async #decodeWithRepair(from: ReadContext, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    const { layer, index } = from;
    const { blobs, indexes } = this.#deps;
    const { signal } = this.#stopping;
    try {
      return await this.#decodeOnce(from, spans);
    } catch (error) {
      if (!isSpandrelError(error, 'SPAN_CORRUPT', 'INDEX_MALFORMED', 'STORE_FAILED')) throw error;
      if (error.code !== 'INDEX_MALFORMED' && !(await waitFor(blobs.suspect(layer.digest), signal))) {
        const again = await unlessCorrupt(this.#decodeOnce(from, spans));
        if (again !== undefined) return again;
        // The new bytes do not match the index either. Blame the index only if the blob verifies.
        const options = { provenBytes: index.layerBytes, complete: true, signal };
        await using handle = await blobs.openBlob(layer.digest, layer.source, options);
        await handle.completed(signal);
      } else if (error.code === 'STORE_FAILED') throw error;
    }
    const other = await waitFor(indexes.replace(layer, index), signal);
    return this.#decodeOnce({ ...from, index: other }, await findSameBounds(other, spans));
  }

  #decodeOnce(from: ReadContext, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    return from.index.compression === 'zstd' ? this.#decodeFrames(from, spans) : this.#inflate(from, spans);
  }

  async #inflate(from: ReadContext, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    const { digest, source } = from.layer;
    // The known size saves a request to the upstream.
    const options = { provenBytes: from.index.layerBytes, signal: this.#stopping.signal };
    await using reader = await this.#deps.blobs.readBlob(digest, source, options);
    return { parts: await this.#inflateBy(from, reader, spans), source: reader.source };
  }

  async #inflateBy(
    { index, reading: { fairnessKey } }: ReadContext,
    reader: BlobReader,
    spans: readonly ReadSpan[],
  ): Promise<readonly Uint8Array[]> {
    const { first, last } = endsOf(spans);
    const range = { start: first.compressed.start, end: last.compressed.end };
    const inflate = (compressed: InflateSpansInput['compressed']): Promise<readonly Uint8Array[]> => {
      const { engine, pool } = this.#deps;
      const { bits } = first;
      const input: InflateSpansInput = { engine, spans, compressed, bits, window: index.window(first) };
      return pool.tasks.inflateSpans(input, { fairnessKey });
    };
    const inFile = await reader.locate(range, this.#stopping.signal);
    try {
      if (inFile !== undefined) return await inflate(inFile);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FAILED', 'RESOURCE_EXHAUSTED')) throw error;
      // The reader can get the bytes another way.
    }
    return inflate(await readBlobRange(reader, range, this.#stopping.signal));
  }

  /**
   * Decodes spans of a zstd layer. A frame cannot be entered in the middle: the bytes before the spans in
   * their frame are fetched and decoded too.
   */
  async #decodeFrames(
    { layer, index, reading: { fairnessKey, allowance } }: ReadContext,
    spans: readonly ReadSpan[],
  ): Promise<DecodedSpans> {
    const { signal } = this.#stopping;
    const { first, last } = endsOf(spans);
    const options = { provenBytes: index.layerBytes, signal };
    await using handle = await this.#deps.blobs.openBlob(layer.digest, layer.source, options);
    const { path, source } = handle;
    await handle.locate({ start: first.compressed.start, end: last.compressed.end }, signal);
    const input: ReadZstdSpansInput = {
      path,
      spans,
      maxWindowBytes: this.#deps.maxZstdWindowBytes,
      maxSkippedBytes: allowance.leftBytes,
    };
    const { parts, skippedBytes } = await this.#deps.pool.tasks.readZstdSpans(input, { signal, fairnessKey });
    allowance.spend(skippedBytes);
    return { parts, source };
  }

  /** Waiting callers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(this.#running);
  }
}

function indexedSpan({ layer, index }: ReadContext, span: ReadSpan): IndexedSpan {
  return { layer: layer.digest, index, span };
}

async function unlessCorrupt<T>(decoding: Promise<T>): Promise<T | undefined> {
  try {
    return await decoding;
  } catch (error) {
    if (!isSpandrelError(error, 'SPAN_CORRUPT')) throw error;
    return undefined;
  }
}

/**
 * The spans of another index of the layer with the same bounds.
 * @throws SpandrelError SPAN_CORRUPT if its bounds differ
 */
async function findSameBounds(
  index: LayerIndexView,
  spans: readonly ReadSpan[],
): Promise<readonly ReadSpan[]> {
  const { first, last } = endsOf(spans);
  const { start } = first.uncompressed;
  const found = await index.readSpans({ start, end: last.uncompressed.end });
  const isSame = ({ uncompressed }: ReadSpan, place: number): boolean =>
    uncompressed.start === found[place]?.uncompressed.start &&
    uncompressed.end === found[place].uncompressed.end;
  if (found.length === spans.length && spans.every(isSame)) return found;
  throw new SpandrelError('SPAN_CORRUPT', 'the index of the layer was wrong and has been rebuilt');
}

/** Groups of consecutive spans. */
function splitIntoRuns(wanted: readonly WantedSpan[]): WantedSpan[][] {
  const runs: WantedSpan[][] = [];
  let nextId: number | undefined;
  for (const one of wanted) {
    if (one.span.id === nextId) runs.at(-1)?.push(one);
    else runs.push([one]);
    nextId = one.span.id + 1;
  }
  return runs;
}

function endsOf(spans: readonly ReadSpan[]): { first: ReadSpan; last: ReadSpan } {
  const [first] = spans;
  const last = spans.at(-1);
  if (first === undefined || last === undefined) throw new SpandrelError('INTERNAL', 'no spans to read');
  return { first, last };
}
