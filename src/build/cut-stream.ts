import type { LayerCompression } from '../core/media-types.ts';
import type { Engine } from '../inflate/engine.ts';
import type { SpanCutterOptions, SpanSink } from '../index/span-sink.ts';
import { cutZstdSpans } from './cut-zstd-spans.ts';
import { GzipSpanCutter } from './gzip-span-cutter.ts';
import { PlainSpanCutter } from './plain-span-cutter.ts';

export interface StreamOptions {
  readonly compression: LayerCompression;
  /** Inflates gzip layers. */
  readonly engine: Engine;
  readonly maxZstdWindowBytes: number | undefined;
  /** zstd: reads the layer again from this offset. Without it, a few bytes before a fault may be lost. */
  readonly reread: ((compressedStart: number) => AsyncIterable<Uint8Array>) | undefined;
}

/**
 * Decompresses a layer and cuts it into spans.
 * @returns why the snapshotter cannot use the stream, although it is valid; `undefined` if it can
 * @throws SpandrelError LAYER_CORRUPT, after output before the fault has been put into spans;
 * LAYER_UNSUPPORTED (zstd); errors of `input`
 */
export async function cutStream(
  input: AsyncIterable<Uint8Array>,
  { compression, engine, maxZstdWindowBytes, reread }: StreamOptions,
  cut: SpanCutterOptions,
): Promise<string | undefined> {
  if (compression === 'zstd') {
    await cutZstdSpans(input, cut, { maxWindowBytes: maxZstdWindowBytes, reread });
    return undefined;
  }
  const cutter = compression === 'gzip' ? new GzipSpanCutter(engine, cut) : new PlainSpanCutter(cut);
  for await (const chunk of input) cutter.write(chunk);
  cutter.finish();
  return cutter instanceof GzipSpanCutter ? cutter.problem : undefined;
}

/** One span: its compressed bytes are not needed. */
const WHOLE_BYTES = Number.MAX_SAFE_INTEGER;
const NO_SINK: SpanSink = {
  addWindow: () => undefined,
  addSpan: () => undefined,
  addReadSpan: () => undefined,
};

/**
 * As {@link cutStream}, for the decompressed bytes alone.
 * @param onOutput receives them in order; they are valid only during the call
 */
export async function decompressStream(
  input: AsyncIterable<Uint8Array>,
  options: StreamOptions,
  onOutput: (bytes: Uint8Array) => void,
): Promise<void> {
  await cutStream(input, options, { spanBytes: WHOLE_BYTES, sink: NO_SINK, onOutput });
}
