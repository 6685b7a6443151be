import { type Digest, isDigest } from '../core/digest.ts';
import { type ErrorCode, ERRORS, SpandrelError } from '../core/errors.ts';
import { tryParseJson } from '../core/json/try-parse-json.ts';
import type { LayerCompression } from '../core/media-types.ts';

/** Why a layer has no zTOC to publish. Its bytes are readable nevertheless. */
export interface NoZtocReason {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Facts about a layer that has been read to its end. */
export interface LayerSummary {
  readonly layerDigest: Digest;
  /** Size of the blob. */
  readonly layerBytes: number;
  readonly compression: LayerCompression;
  /** Absent if the stream cannot be decompressed to its end. */
  readonly diffId?: Digest;
  /** Bytes that the blob decompresses to, up to the fault of its stream if it has one. */
  readonly uncompressedBytes: number;
  /** Offset where the tar reader stopped, which `soci` takes for the uncompressed size. */
  readonly archiveBytes: number;
  /** Span size of the build. */
  readonly spanBytes: number;
  /** Read span size of the build. */
  readonly readSpanBytes: number;
  /**
   * Most output that must be decoded and discarded to reach a span: not 0 if spans lie within zstd frames.
   */
  readonly maxSkippedBytes: number;
  /** The zTOC, if a snapshotter can mount the layer with it. */
  readonly ztoc?: { readonly digest: Digest; readonly sizeBytes: number };
  /**
   * Written by earlier versions: the index was built with the spans of a pushed zTOC, and so differs from the
   * replicas' one.
   */
  readonly isPushed?: boolean;
  /** Present if and only if `ztoc` is absent. See {@link streamFault} and {@link layerFault}. */
  readonly reason?: NoZtocReason;
  /** The limit that the zTOC exceeds, if the reason is LAYER_TOO_LARGE. */
  readonly maxTocBytes?: number | undefined;
  readonly spanCount: number;
  readonly fileCount: number;
}

/** Why the stream cannot be decompressed to its end; `undefined` if it can. */
export function streamFault({ reason }: LayerSummary): NoZtocReason | undefined {
  return reason?.code === 'LAYER_CORRUPT' ? reason : undefined;
}

/** Why the layer may have entries that its index lacks; `undefined` if the index has all of them. */
export function layerFault(summary: LayerSummary): NoZtocReason | undefined {
  return summary.reason?.code === 'TAR_INVALID' ? summary.reason : streamFault(summary);
}

const COMPRESSIONS: readonly unknown[] = ['gzip', 'zstd', 'none'] satisfies LayerCompression[];
const COUNTS = [
  'layerBytes',
  'uncompressedBytes',
  'archiveBytes',
  'spanBytes',
  'readSpanBytes',
  'maxSkippedBytes',
  'spanCount',
  'fileCount',
] as const;

/** @throws SpandrelError INDEX_MALFORMED */
export function parseLayerSummary(json: string): LayerSummary {
  const value = tryParseJson(json);
  if (!isObject(value) || !isSummary(value)) {
    throw new SpandrelError('INDEX_MALFORMED', 'the summary of the layer is malformed');
  }
  return value;
}

function isSummary(value: object): value is LayerSummary {
  const summary: { [Field in keyof LayerSummary]?: unknown } = value;
  return (
    isDigestText(summary.layerDigest) &&
    (isDigestText(summary.diffId) || (summary.diffId === undefined && isReason(summary.reason))) &&
    COMPRESSIONS.includes(summary.compression) &&
    COUNTS.every((field) => isCount(summary[field])) &&
    (summary.isPushed === undefined || typeof summary.isPushed === 'boolean') &&
    (summary.ztoc === undefined) !== (summary.reason === undefined) &&
    (summary.ztoc === undefined || isZtoc(summary.ztoc)) &&
    (summary.reason === undefined || isReason(summary.reason)) &&
    (summary.maxTocBytes === undefined || isCount(summary.maxTocBytes))
  );
}

function isZtoc(value: unknown): boolean {
  return (
    isObject(value) &&
    'digest' in value &&
    isDigestText(value.digest) &&
    'sizeBytes' in value &&
    isCount(value.sizeBytes)
  );
}

function isReason(value: unknown): boolean {
  const isCode =
    isObject(value) && 'code' in value && typeof value.code === 'string' && Object.hasOwn(ERRORS, value.code);
  return isCode && 'message' in value && typeof value.message === 'string';
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function isDigestText(value: unknown): boolean {
  return typeof value === 'string' && isDigest(value);
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
