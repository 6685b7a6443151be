import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';

/** Chunks in order. Each is valid until the next one is requested. */
export type ByteStream = AsyncGenerator<Uint8Array, void, undefined>;

/** Where bytes come from; a function if that is known only once the first of them is read. */
export type ContentSource = ByteSource | undefined | (() => ByteSource | undefined);

/** Content of a known size that can be read from any position. Protocol-neutral. */
export interface Content {
  readonly sizeBytes: number;
  readonly mediaType: string;
  /** The same name always means the same bytes, encoding included. */
  readonly etag: string;
  /** Of a manifest or blob, whatever its encoding. */
  readonly digest?: Digest;
  /** Present if the client's choice of encodings decides on the bytes. */
  readonly encoding?: 'gzip' | 'zstd' | 'identity';
  /** The request headers whose values decide on the bytes; `accept-encoding` if there is an `encoding`. */
  readonly vary?: string;
  /** Of the bytes as they are sent, encoding included, if that is known. */
  readonly reprDigest?: Digest;
  /** What was requested always has these bytes. False for tags, and while an index is being built. */
  readonly isImmutable: boolean;
  readonly source: ContentSource;
  /** Largest gap between two ranges that is read as well, to spare a second read; 32 KiB by default. */
  readonly maxGapBytes?: number | undefined;
  read(range: ByteRange): ByteStream;
  /** Called once when nothing is read any more. */
  dispose?(): Promise<void>;
}

/** A part of a decompressed layer whose total size is unknown. */
export interface UnsizedContent {
  readonly mediaType: string;
  /** Offsets in the decompressed layer; `undefined` for all of it, as it arrives. */
  readonly range: ByteRange | undefined;
  readonly source: ContentSource;
  read(): ByteStream;
}

/** Who reads content, and how long. */
export interface ContentReader {
  /** Address of the client; fairness key of the reads. */
  readonly client: string;
  /** The client that a balancer names. It is not verified. */
  readonly forwardedClient?: string | undefined;
  /** Aborted when the client aborts. */
  readonly signal: AbortSignal;
}

/** For a client that wants the size alone. */
export async function* noBytes(): ByteStream {
  // Nothing is read.
}
