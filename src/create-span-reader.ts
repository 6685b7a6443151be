import type { BlobStore } from './blobs/blob-store.ts';
import type { ByteCache } from './cache/byte-cache.ts';
import { MemoryCache } from './cache/memory-cache.ts';
import type { Config } from './config/config-keys.ts';
import type { EngineName } from './inflate/engine.ts';
import type { LayerIndexes } from './layers/layer-indexes.ts';
import { LayerReader } from './spans/layer-reader.ts';
import { ReadAhead } from './spans/read-ahead.ts';
import { SpanCache } from './spans/span-cache.ts';
import { SpanFetcher, type SpanFetcherDeps } from './spans/span-fetcher.ts';
import type { Events } from './telemetry/events.ts';

export interface CreateSpanReaderDeps {
  /** Disposes of the parts. */
  readonly opening: AsyncDisposableStack;
  readonly blobs: BlobStore;
  readonly indexes: LayerIndexes;
  readonly shared: ByteCache | undefined;
  readonly pool: SpanFetcherDeps['pool'];
  readonly engine: EngineName;
  readonly events: Events;
}

export interface CreatedSpanReader {
  readonly fetcher: SpanFetcher;
  readonly reader: LayerReader;
  /** Memory for decompressed spans. */
  readonly spanMemoryBytes: number;
}

/** Share of `cache.memoryBytes`. */
const SPAN_SHARE = 0.625;

/** Share of the span memory that one reader may fetch ahead. */
const READ_AHEAD_SHARE = 1 / 32;
const MAX_READ_AHEAD_BYTES = 4 * 2 ** 20;

/** Creates the parts that read decompressed ranges of layers. */
export function createSpanReader(
  { cache, limits, spans }: Pick<Config, 'cache' | 'limits' | 'spans'>,
  { opening, shared, ...deps }: CreateSpanReaderDeps,
): CreatedSpanReader {
  const spanMemoryBytes = Math.floor(cache.memoryBytes * SPAN_SHARE);
  const memory = new MemoryCache({ maxBytes: spanMemoryBytes, events: deps.events });
  const { maxZstdWindowBytes, maxSkippedBytes } = limits;
  const fetcher = opening.use(
    new SpanFetcher({ ...deps, cache: new SpanCache({ memory, shared }), maxZstdWindowBytes }),
  );
  const readAhead = new ReadAhead({
    fetcher,
    maxBytes: Math.min(MAX_READ_AHEAD_BYTES, Math.floor(spanMemoryBytes * READ_AHEAD_SHARE)),
    maxRunning: spans.threads,
  });
  const reader = new LayerReader({ ...deps, fetcher, readAhead, maxSkippedBytes });
  return { fetcher, reader, spanMemoryBytes };
}
