import type { BlobReader } from '../blobs/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import { readBlobRange } from '../blobs/read-blob-range.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import { defaultEngine } from '../inflate/default-engine.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import type { ByteSource, Metrics } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { InflateSpansInput, ReadZstdSpansInput } from '../ztoc/span-worker.ts';
import type { ReadSpan } from '../ztoc/span.ts';
import type { LayerIndexes } from './layer-indexes.ts';
import type { HeldLayer } from './layer.ts';
import { type SpanCache, spanKey } from './span-cache.ts';
import type * as spanTasks from '../ztoc/span-worker.ts';

export interface SpanFetcherDeps {
  readonly blobs: BlobStore;
  /** Asked for another index in the place of a damaged one. */
  readonly indexes: LayerIndexes;
  readonly cache: SpanCache;
  /** Threads whose entry is `ztoc/span-worker.ts`. */
  readonly pool: WorkerPool<typeof spanTasks>;
  /** As `limits.maxZstdWindowBytes`. */
  readonly maxZstdWindowBytes: number;
  readonly metrics: Metrics;
}

/** A span that has been read. */
export interface SpanBytes {
  readonly span: ReadSpan;
  /** Shared with the cache: not to be modified. */
  readonly bytes: Uint8Array;
  readonly source: ByteSource;
}

/** The bytes of spans that follow each other, and where they came from. */
interface DecodedSpans {
  readonly parts: readonly Uint8Array[];
  readonly source: ByteSource;
}

/** A span that somebody waits for, and that nobody had been reading before. */
interface WantedSpan extends PromiseWithResolvers<SpanBytes> {
  readonly span: ReadSpan;
}

/**
 * Gets decompressed spans: from the cache, else from the layer's blob. A span that several want at once is decompressed once; spans
 * that follow each other are read in one piece and decompressed in one go.
 */
export class SpanFetcher implements AsyncDisposable {
  readonly #deps: SpanFetcherDeps;
  readonly #flights: SingleFlight<SpanBytes>;
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(deps: SpanFetcherDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('span', deps.metrics);
  }

  /**
   * Get spans that follow each other. The signal ends the caller's waiting, not the work.
   * @returns a promise for each; one that nobody awaits may fail unnoticed. They reject with SPAN_CORRUPT, INDEX_MALFORMED, what
   * fills throw
   */
  fetch(
    layer: HeldLayer,
    index: LayerIndexView,
    spans: readonly ReadSpan[],
    signal: AbortSignal,
  ): Promise<SpanBytes>[] {
    const wanted: WantedSpan[] = [];
    const found = spans.map((span) => {
      // One that fails for an upstream says nothing to the repositories of another.
      const key = `${spanKey({ layer: layer.digest, index, span })} ${layer.source.upstream}`;
      const start = (): Promise<SpanBytes> => {
        const resolvers = Promise.withResolvers<SpanBytes>();
        wanted.push({ span, ...resolvers });
        return resolvers.promise;
      };
      const bytes = this.#flights.run(key, start, signal);
      bytes.catch(() => undefined);
      return bytes;
    });
    const providing = this.#provide(layer, index, wanted);
    this.#running.add(providing);
    void providing.then(() => this.#running.delete(providing));
    return found;
  }

  /** Settles all that is wanted. */
  async #provide(layer: HeldLayer, index: LayerIndexView, wanted: readonly WantedSpan[]): Promise<void> {
    const missing: WantedSpan[] = [];
    const look = async (one: WantedSpan): Promise<boolean> => {
      const hit = await this.#deps.cache.take({ layer: layer.digest, index, span: one.span });
      if (hit === undefined) return false;
      one.resolve({ span: one.span, ...hit });
      return true;
    };
    try {
      const hits = await Promise.all(wanted.map(look));
      missing.push(...wanted.filter((_, place) => hits[place] === false));
      await Promise.all(splitIntoRuns(missing).map((run) => this.#provideRun(layer, index, run)));
    } catch (error) {
      for (const { reject } of wanted) reject(error);
    }
  }

  async #provideRun(layer: HeldLayer, index: LayerIndexView, run: readonly WantedSpan[]): Promise<void> {
    try {
      const spans = run.map(({ span }) => span);
      const { parts, source } = await this.#decode(layer, index, spans);
      const stored = run.map(({ span, resolve }, place) => {
        const bytes = parts[place] ?? new Uint8Array(0);
        const kept = this.#deps.cache.keep({ layer: layer.digest, index, span }, bytes);
        resolve({ span, bytes, source });
        return kept;
      });
      await Promise.all(stored);
    } catch (error) {
      // One that is damaged must not take its neighbours with it.
      if (run.length > 1 && isSpandrelError(error, 'SPAN_CORRUPT'))
        await Promise.all(run.map((one) => this.#provideRun(layer, index, [one])));
      else for (const { reject } of run) reject(error);
    }
  }

  async #decode(layer: HeldLayer, index: LayerIndexView, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    const isZstd = index.compression === 'zstd';
    const decoded = await this.#decodeRight(layer, index, spans);
    const inflated = decoded.parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.#deps.metrics.inflateBytes.inc({ engine: isZstd ? 'zstd' : defaultEngine.name }, inflated);
    return decoded;
  }

  /** What is stored may have gone bad: the blob, which its digest tells, or else the index. The bad one is had anew, once. */
  async #decodeRight(
    layer: HeldLayer,
    index: LayerIndexView,
    spans: readonly ReadSpan[],
  ): Promise<DecodedSpans> {
    const { blobs, indexes } = this.#deps;
    const { signal } = this.#stopping;
    try {
      return await this.#decodeOnce(layer, index, spans);
    } catch (error) {
      if (!isSpandrelError(error, 'SPAN_CORRUPT', 'INDEX_MALFORMED', 'STORE_FAILED')) throw error;
      if (error.code !== 'INDEX_MALFORMED' && !(await waitFor(blobs.suspect(layer.digest), signal))) {
        const again = await unlessCorrupt(this.#decodeOnce(layer, index, spans));
        if (again !== undefined) return again;
        // What arrives does not fit the index either. That is to be blamed only when the blob is known to be right.
        const options = { provenBytes: index.layerBytes, complete: true, signal };
        await using handle = await blobs.openBlob(layer.digest, layer.source, options);
        await handle.completed(signal);
      } else if (error.code === 'STORE_FAILED') throw error;
    }
    const other = await waitFor(indexes.replace(layer, index), signal);
    return this.#decodeOnce(layer, other, await findSame(other, spans));
  }

  #decodeOnce(layer: HeldLayer, index: LayerIndexView, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    return index.compression === 'zstd'
      ? this.#decodeFrames(layer, index, spans)
      : this.#inflate(layer, index, spans);
  }

  async #inflate(layer: HeldLayer, index: LayerIndexView, spans: readonly ReadSpan[]): Promise<DecodedSpans> {
    const { digest, source } = layer;
    // Knowing the size saves asking the upstream for it.
    const options = { provenBytes: index.layerBytes, signal: this.#stopping.signal };
    await using reader = await this.#deps.blobs.readBlob(digest, source, options);
    return { parts: await this.#inflateBy(index, reader, spans), source: reader.source };
  }

  async #inflateBy(
    index: LayerIndexView,
    reader: BlobReader,
    spans: readonly ReadSpan[],
  ): Promise<readonly Uint8Array[]> {
    const { first, last } = endsOf(spans);
    const range = { start: first.compressed.start, end: last.compressed.end };
    const inflate = (compressed: InflateSpansInput['compressed']): Promise<readonly Uint8Array[]> => {
      const input: InflateSpansInput = { spans, compressed, bits: first.bits, window: index.window(first) };
      return this.#deps.pool.tasks.inflateSpans(input);
    };
    const inFile = await reader.locate(range, this.#stopping.signal);
    try {
      if (inFile !== undefined) return await inflate(inFile);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FAILED')) throw error;
      // The reader knows other ways to the bytes.
    }
    return inflate(await readBlobRange(reader, range, this.#stopping.signal));
  }

  /** A zstd frame cannot be entered in its middle: what lies before the spans in their frame is decoded and dropped. */
  async #decodeFrames(
    layer: HeldLayer,
    index: LayerIndexView,
    spans: readonly ReadSpan[],
  ): Promise<DecodedSpans> {
    // The thread follows the file from its start.
    const { signal } = this.#stopping;
    const options = { provenBytes: index.layerBytes, complete: true, signal };
    await using handle = await this.#deps.blobs.openBlob(layer.digest, layer.source, options);
    const { path, growth, source } = handle;
    const { maxZstdWindowBytes: maxWindowBytes } = this.#deps;
    const input: ReadZstdSpansInput = { path, growth: growth.shared, spans, maxWindowBytes };
    return { parts: await this.#deps.pool.tasks.readZstdSpans(input, { signal }), source };
  }

  /** Whoever waits gets SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(this.#running);
  }
}

async function unlessCorrupt<T>(decoding: Promise<T>): Promise<T | undefined> {
  try {
    return await decoding;
  } catch (error) {
    if (!isSpandrelError(error, 'SPAN_CORRUPT')) throw error;
    return undefined;
  }
}

/** The spans of another index of the layer that hold the same bytes. @throws SpandrelError SPAN_CORRUPT if it is cut elsewhere */
async function findSame(index: LayerIndexView, spans: readonly ReadSpan[]): Promise<readonly ReadSpan[]> {
  const { first, last } = endsOf(spans);
  const { start } = first.uncompressed;
  const found = await index.readSpans({ start, end: last.uncompressed.end });
  const isSame = ({ uncompressed }: ReadSpan, place: number): boolean =>
    uncompressed.start === found[place]?.uncompressed.start &&
    uncompressed.end === found[place].uncompressed.end;
  if (found.length === spans.length && spans.every(isSame)) return found;
  throw new SpandrelError('SPAN_CORRUPT', 'the index of the layer was wrong and has been made anew');
}

/** Groups of spans that follow each other. */
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
