import type { Start, StartEnd } from './start.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';

/** A start in JSON. Shows no address. */
export interface StartDescription {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `inflated` if the node read tars of layers, `compressed` if it read layers. */
  readonly form: 'inflated' | 'compressed';
  readonly hasBootLayer: boolean;
  /** Between the first and the last request. */
  readonly seconds: number;
  readonly requests: number;
  readonly bytes: number;
  /** Bytes by where they came from. */
  readonly bySource: Readonly<Partial<Record<ByteSource, number>>>;
  readonly end: StartEnd;
  /** In the order of the requests, the first thousand. */
  readonly ranges: readonly DescribedRange[];
}

interface DescribedRange {
  /** The blob that was requested. */
  readonly digest: string;
  readonly start: number;
  readonly end: number;
  /** Since the first request. */
  readonly ms: number;
}

const MAX_RANGES = 1000;

export function describeStart({ beganAtMs, mounted, reads, end, servedPaths }: Start): StartDescription {
  const first = reads[0]?.atMs ?? 0;
  const last = reads.at(-1)?.atMs ?? first;
  const bySource: Partial<Record<ByteSource, number>> = {};
  let bytes = 0;
  for (const { range, origin } of reads) {
    const length = range.end - range.start;
    bytes += length;
    if (origin.source !== undefined) bySource[origin.source] = (bySource[origin.source] ?? 0) + length;
  }
  return {
    at: new Date(beganAtMs).toISOString(),
    form: mounted.some(({ digest, layer }) => digest !== layer) ? 'inflated' : 'compressed',
    hasBootLayer: servedPaths.length > 0,
    seconds: Math.round(last - first) / 1000,
    requests: reads.length,
    bytes,
    bySource,
    end,
    ranges: reads.slice(0, MAX_RANGES).map(({ digest, range, atMs }) => ({
      digest,
      ...range,
      ms: Math.round(atMs - first),
    })),
  };
}
