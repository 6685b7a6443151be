import { isSnapshotter, type LayerRequest, pullMode } from '../../core/client-quirks.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

/** Where the bytes of a response come from, once that is known. */
export interface ReadOrigin {
  source?: ByteSource | undefined;
}

/** A range of a layer that a node has requested. */
export interface RangeRead {
  /** As `targetKey`. */
  readonly repository: string;
  /** Of the node, as well as it is known: several nodes may have the same. */
  readonly address: string;
  /** Number of the connection. */
  readonly connection: number;
  /** The blob that was requested: a layer, or the tar that it decompresses to. */
  readonly digest: Digest;
  readonly layer: Digest;
  /** In the blob that was requested. */
  readonly range: ByteRange;
  /** The node asks for two bytes before it mounts the layer. */
  readonly isProbe: boolean;
  /** Milliseconds of a monotonic clock. */
  readonly atMs: number;
  readonly origin: ReadOrigin;
}

/** A request of a node for a range of a layer. */
export interface NodeRequest extends LayerRequest {
  readonly target: Target;
  /** The blob that is requested: a layer, or the tar that it decompresses to. */
  readonly digest: Digest;
  readonly layer: Digest;
  /** Address of the node, as well as it is known. */
  readonly address: string;
  /** Number of the connection. */
  readonly connection: number;
  readonly origin: ReadOrigin;
  /** Aborted when the client aborts. */
  readonly signal: AbortSignal;
}

const PROBE = 'bytes=0-1';

/** @returns `undefined` for what is no read of a lazy node */
export function parseRangeRead(request: NodeRequest, atMs: number): RangeRead | undefined {
  const { target, digest, layer, address, connection, origin, userAgent } = request;
  const isProbe = request.range === PROBE && isSnapshotter(userAgent);
  if (!isProbe && pullMode(request) !== 'lazy') return undefined;
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(request.range ?? '') ?? [];
  if (first === undefined || last === undefined) return undefined;
  const range = { start: Number(first), end: Number(last) + 1 };
  if (range.end <= range.start) return undefined;
  return { repository: targetKey(target), address, connection, digest, layer, range, isProbe, atMs, origin };
}
