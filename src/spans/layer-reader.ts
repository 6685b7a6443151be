import type { BlobStore } from '../blobs/blob-store.ts';
import { type ByteRange, intersectRanges } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ByteSource, Metrics } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import { streamFault } from '../index/layer-summary.ts';
import type { HeldLayer } from '../layers/layer.ts';
import type { ReadAhead } from './read-ahead.ts';
import { type Reading, SkipAllowance } from './reading.ts';
import type { SpanBytes, SpanFetcher } from './span-fetcher.ts';

export interface LayerReaderDeps {
  readonly blobs: Pick<BlobStore, 'readBlob'>;
  readonly fetcher: Pick<SpanFetcher, 'fetch'>;
  readonly readAhead: Pick<ReadAhead, 'note'>;
  readonly metrics: Metrics;
  /** As `limits.maxSkippedBytes`. */
  readonly maxSkippedBytes: number;
}

export interface ReadOptions {
  /** Offsets in the decompressed layer; an infinite end means the layer's own. */
  readonly range: ByteRange;
  readonly reading: Reading;
  /** Told once for each span where its bytes came from. */
  readonly onSource?: (source: ByteSource) => void;
}

/** A long read gets ever more spans at once: the first bytes soon, the others cheaply. */
const FIRST_RUN_BYTES = 256 * 1024;
const MAX_RUN_BYTES = 4 * 1024 * 1024;

/** Reads decompressed bytes of layers, span by span. */
export class LayerReader {
  readonly #deps: LayerReaderDeps;

  constructor(deps: LayerReaderDeps) {
    this.#deps = deps;
  }

  /** For all that one request reads. @param line  as {@link Reading.line} */
  beginRequest(line: string, signal: AbortSignal): Reading {
    return { line, signal, allowance: new SkipAllowance(this.#deps.maxSkippedBytes) };
  }

  /**
   * Stream a range. The chunks are shared with the cache and must not be modified. A run of spans is read ahead while the one before
   * is consumed, so that two runs are held at most, each of 4 MiB and a span.
   * @throws SpandrelError RANGE_INVALID if the layer ends before a finite range does; LAYER_CORRUPT in place of an end that is unknown; SPAN_CORRUPT; RANGE_TOO_COSTLY; what fills and builds throw;
   * BLOB_CORRUPT as soon as the fill that bytes came from has turned out to be of another blob
   */
  async *read(
    layer: HeldLayer,
    index: LayerIndexView,
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { range, reading } = options;
    const { signal } = reading;
    if (range.start >= range.end) return;
    if (index.compression === 'none') {
      yield* this.#readPlain(layer, options);
      return;
    }
    this.#deps.readAhead.note(layer, index, range, reading);
    let runBytes = FIRST_RUN_BYTES;
    let ahead = this.#startRun(layer, index, firstBytes(range, runBytes), reading);
    for (let position = range.start; position < range.end;) {
      const run = await ahead;
      if (run === undefined) {
        if (range.end === Number.POSITIVE_INFINITY) {
          const fault = streamFault((await index.finished(signal)).summary);
          if (fault === undefined) return;
          throw new SpandrelError(fault.code, fault.message);
        }
        throw new SpandrelError('RANGE_INVALID', 'the decompressed layer ends before the range does');
      }
      if (run.end < range.end) {
        runBytes = Math.min(2 * runBytes, MAX_RUN_BYTES);
        const next = { start: run.end, end: range.end };
        ahead = this.#startRun(layer, index, firstBytes(next, runBytes), reading);
        // If the consumer leaves, nobody awaits this run any more; its failure then concerns nobody.
        ahead.catch(() => undefined);
      }
      for (const pending of run.spans) {
        const { span, bytes, source } = await pending;
        this.#deps.metrics.spanReads.inc({ source });
        options.onSource?.(source);
        index.assertSound();
        const part = intersectRanges(span.uncompressed, { start: position, end: range.end });
        position = part.end;
        yield bytes.subarray(part.start - span.uncompressed.start, part.end - span.uncompressed.start);
      }
    }
    // The last bytes may have waited for their consumer for long.
    index.assertSound();
  }

  /** Spans from the one with the first byte of `range` on, as far as they are known; `undefined` if the layer ends before it. */
  async #startRun(
    layer: HeldLayer,
    index: LayerIndexView,
    range: ByteRange,
    reading: Reading,
  ): Promise<{ spans: readonly Promise<SpanBytes>[]; end: number } | undefined> {
    const spans = await index.readSpans(range, reading.signal);
    const last = spans.at(-1);
    if (last === undefined) return undefined;
    return { spans: this.#deps.fetcher.fetch(layer, index, spans, reading), end: last.uncompressed.end };
  }

  async *#readPlain(layer: HeldLayer, options: ReadOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const { digest, source, claimedBytes } = layer;
    await using reader = await this.#deps.blobs.readBlob(digest, source, {
      claimedBytes,
      signal: options.reading.signal,
    });
    const { start, end } = options.range;
    const last = Math.min(end, reader.sizeBytes);
    if (end !== Number.POSITIVE_INFINITY && end > last) {
      throw new SpandrelError('RANGE_INVALID', 'the layer ends before the range does');
    }
    options.onSource?.(reader.source);
    this.#deps.metrics.spanReads.inc({ source: reader.source });
    yield* reader.read({ start, end: last }, options.reading.signal);
  }
}

function firstBytes({ start, end }: ByteRange, bytes: number): ByteRange {
  return { start, end: Math.min(end, start + bytes) };
}
