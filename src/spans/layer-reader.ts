import type { BlobStore } from '../blobs/blob-store.ts';
import { type ByteRange, intersectRanges } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { Events } from '../telemetry/events.ts';
import type { ByteSource } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import { streamFault } from '../index/layer-summary.ts';
import type { AuthorizedLayer } from '../layers/layer.ts';
import type { ReadAhead } from './read-ahead.ts';
import { type Reading, SkipAllowance } from './reading.ts';
import type { SpanBytes, SpanFetcher } from './span-fetcher.ts';

export interface LayerReaderDeps {
  readonly blobs: Pick<BlobStore, 'readBlob'>;
  readonly fetcher: Pick<SpanFetcher, 'fetch'>;
  readonly readAhead: Pick<ReadAhead, 'note'>;
  readonly events: Events;
  /** As `limits.maxSkippedBytes`. */
  readonly maxSkippedBytes: number;
}

export interface ReadOptions {
  /** Range of the decompressed layer; an infinite end means the end of the layer. */
  readonly range: ByteRange;
  readonly reading: Reading;
  /** Called once per span with the source of its bytes. */
  readonly onSource?: (source: ByteSource) => void;
}

/** Runs start small, for the first bytes to arrive soon, and then double, to be cheaper per byte. */
const FIRST_RUN_BYTES = 256 * 1024;
const MAX_RUN_BYTES = 4 * 1024 * 1024;

/** Reads decompressed bytes of layers, span by span. */
export class LayerReader {
  readonly #deps: LayerReaderDeps;

  constructor(deps: LayerReaderDeps) {
    this.#deps = deps;
  }

  /** For all reads of one request. */
  beginRequest(fairnessKey: string, signal: AbortSignal): Reading {
    return { fairnessKey, signal, allowance: new SkipAllowance(this.#deps.maxSkippedBytes) };
  }

  /**
   * Streams a range. Chunks are shared with the cache and must not be modified. The next run of spans is
   * fetched while the current one is consumed, so at most two runs are held, each of 4 MiB and one span.
   * @throws SpandrelError RANGE_INVALID if the layer ends before a finite range does; LAYER_CORRUPT at the
   * fault of a stream if the end is infinite; SPAN_CORRUPT; RANGE_TOO_COSTLY; errors of fills and builds;
   * BLOB_CORRUPT as soon as the bytes are known to come from another blob
   */
  async *read(
    layer: AuthorizedLayer,
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
        // If the consumer stops, nobody awaits this run: its failure must not be an unhandled rejection.
        ahead.catch(() => undefined);
      }
      for (const pending of run.spans) {
        const { span, bytes, source } = await pending;
        this.#deps.events.spanRead(source);
        options.onSource?.(source);
        index.assertSound();
        const part = intersectRanges(span.uncompressed, { start: position, end: range.end });
        position = part.end;
        yield bytes.subarray(part.start - span.uncompressed.start, part.end - span.uncompressed.start);
      }
    }
    // The consumer may have taken long for the last bytes.
    index.assertSound();
  }

  /** Fetches the known spans from the start of `range` on; `undefined` if the layer ends before it. */
  async #startRun(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    range: ByteRange,
    reading: Reading,
  ): Promise<{ spans: readonly Promise<SpanBytes>[]; end: number } | undefined> {
    const spans = await index.readSpans(range, reading.signal);
    const last = spans.at(-1);
    if (last === undefined) return undefined;
    return { spans: this.#deps.fetcher.fetch(layer, index, spans, reading), end: last.uncompressed.end };
  }

  async *#readPlain(
    layer: AuthorizedLayer,
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
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
    this.#deps.events.spanRead(reader.source);
    yield* reader.read({ start, end: last }, options.reading.signal);
  }
}

function firstBytes({ start, end }: ByteRange, bytes: number): ByteRange {
  return { start, end: Math.min(end, start + bytes) };
}
