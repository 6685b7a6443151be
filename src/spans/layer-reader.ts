import { crc32 } from 'node:zlib';

import type { BlobStore } from '../blobs/blob-store.ts';
import { readBlobRange } from '../blobs/read-blob-range.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import { type ByteRange, intersectRanges } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { defaultEngine } from '../inflate/default-engine.ts';
import type { WorkerPool } from '../inflate/worker-pool.ts';
import type { ByteSource, Metrics } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { Span } from '../ztoc/span.ts';
import type { Layer } from './layer.ts';

export interface LayerReaderDeps {
  readonly blobs: BlobStore;
  /** Decompressed spans. */
  readonly cache: ByteCache;
  readonly pool: WorkerPool;
  readonly metrics: Metrics;
}

export interface ReadOptions {
  /** Offsets in the decompressed layer; an infinite end means the layer's own. */
  readonly range: ByteRange;
  readonly signal: AbortSignal;
  /** Told once for each span where its bytes came from. */
  readonly onSource?: (source: ByteSource) => void;
}

interface SpanBytes {
  readonly bytes: Uint8Array;
  readonly source: ByteSource;
}

/** Reads decompressed bytes of layers, span by span. A span that several readers want at once is decompressed once. */
export class LayerReader {
  readonly #deps: LayerReaderDeps;
  readonly #flights: SingleFlight<SpanBytes>;

  constructor(deps: LayerReaderDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('span', deps.metrics);
  }

  /**
   * Stream a range. The chunks are shared with the cache and must not be modified. One span is read ahead while the one before is
   * consumed, so two spans are held at most.
   * @throws SpandrelError RANGE_INVALID if the layer ends before a finite range does; SPAN_CORRUPT; what fills and builds throw
   */
  async *read(
    layer: Layer,
    index: LayerIndexView,
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { range, signal } = options;
    if (range.start >= range.end) return;
    if (index.compression === 'none') {
      yield* this.#readPlain(layer, options);
      return;
    }
    let ahead = this.#spanAt(layer, index, range.start, signal);
    for (let position = range.start; position < range.end;) {
      const current = await ahead;
      if (current === undefined) {
        if (range.end === Number.POSITIVE_INFINITY) return;
        throw new SpandrelError('RANGE_INVALID', 'the decompressed layer ends before the range does');
      }
      const { span, bytes, source } = current;
      options.onSource?.(source);
      const part = intersectRanges(span.uncompressed, { start: position, end: range.end });
      position = part.end;
      if (position < range.end) {
        ahead = this.#spanAt(layer, index, position, signal);
        // If the consumer leaves, nobody awaits this read any more; its failure then concerns nobody.
        ahead.catch(() => undefined);
      }
      yield bytes.subarray(part.start - span.uncompressed.start, part.end - span.uncompressed.start);
    }
  }

  async #spanAt(
    layer: Layer,
    index: LayerIndexView,
    uncompressedOffset: number,
    signal: AbortSignal,
  ): Promise<(SpanBytes & { span: Span }) | undefined> {
    const span = await index.spanAt(uncompressedOffset, signal);
    if (span === undefined) return undefined;
    const key = `span:${layer.digest}:${span.uncompressed.start}-${span.uncompressed.end}`;
    const found = await this.#flights.run(key, () => this.#readSpan(key, layer, index, span), signal);
    this.#deps.metrics.spanReads.inc({ source: found.source });
    return { ...found, span };
  }

  async #readSpan(key: string, layer: Layer, index: LayerIndexView, span: Span): Promise<SpanBytes> {
    const cached = await this.#deps.cache.get(key);
    if (cached !== undefined) {
      // Memory is ours; what comes over the network is checked before anyone sees it.
      if (cached.tier === 'memory' || isIntact(cached.bytes, span))
        return { bytes: cached.bytes, source: cached.tier };
      await this.#deps.cache.delete(key);
    }
    const { bytes, source } =
      index.compression === 'zstd'
        ? await this.#decodeFrame(layer, span)
        : await this.#inflate(layer, index, span);
    this.#deps.metrics.inflateBytes.inc(
      { engine: index.compression === 'zstd' ? 'zstd' : defaultEngine.name },
      bytes.byteLength,
    );
    await this.#deps.cache.set(key, bytes);
    return { bytes, source };
  }

  async #inflate(layer: Layer, index: LayerIndexView, span: Span): Promise<SpanBytes> {
    const { digest: blob, source, sizeBytes } = layer;
    await using reader = await this.#deps.blobs.readBlob(blob, source, { sizeBytes });
    const [compressed, window] = await Promise.all([
      readBlobRange(reader, span.compressed),
      index.window(span),
    ]);
    const { bits, digest, crc32 } = span;
    const uncompressedLength = span.uncompressed.end - span.uncompressed.start;
    const bytes = await this.#deps.pool.run<Uint8Array>('inflateSpan', {
      compressed,
      window,
      bits,
      digest,
      crc32,
      uncompressedLength,
    });
    return { bytes, source: reader.source };
  }

  /** A zstd frame cannot be entered in its middle: what lies before the span in its frame is decoded and dropped. */
  async #decodeFrame(layer: Layer, span: Span): Promise<SpanBytes> {
    // The thread follows the file from its start.
    const options = { sizeBytes: layer.sizeBytes, complete: true };
    await using handle = await this.#deps.blobs.openBlob(layer.digest, layer.source, options);
    const { path, growth, source } = handle;
    const bytes = await this.#deps.pool.run<Uint8Array>('readZstdSpan', {
      path,
      growth: growth.shared,
      span,
    });
    return { bytes, source };
  }

  async *#readPlain(layer: Layer, options: ReadOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const { digest, source, sizeBytes } = layer;
    await using reader = await this.#deps.blobs.readBlob(digest, source, { sizeBytes });
    const { start, end } = options.range;
    const last = Math.min(end, reader.sizeBytes);
    if (end !== Number.POSITIVE_INFINITY && end > last) {
      throw new SpandrelError('RANGE_INVALID', 'the layer ends before the range does');
    }
    options.onSource?.(reader.source);
    this.#deps.metrics.spanReads.inc({ source: reader.source });
    yield* reader.read({ start, end: last }, options.signal);
  }
}

function isIntact(bytes: Uint8Array, span: Span): boolean {
  return bytes.byteLength === span.uncompressed.end - span.uncompressed.start && crc32(bytes) === span.crc32;
}
