import { SpandrelError } from '../core/errors.ts';

/**
 * Bytes to read: half-open, to the end without `end`. As text, the value of a `Range` header without its
 * unit: `0-99`, `100-`, `-5`.
 */
export type WantedRange = { readonly start: number; readonly end?: number } | string;

/** Bytes of a file or of a decompressed layer, as they arrive. */
export interface Content {
  /** Bytes of `body`. */
  readonly sizeBytes: number | undefined;
  /** Bytes of the whole file or layer. */
  readonly totalBytes: number | undefined;
  /** @throws SpandrelError UPSTREAM_UNREACHABLE if the response ends early */
  readonly body: AsyncIterable<Uint8Array>;
}

/** The value of a `Range` header. */
export function printRange(range: WantedRange): string {
  if (typeof range === 'string') return `bytes=${range}`;
  const { start, end } = range;
  return `bytes=${start}-${end === undefined ? '' : end - 1}`;
}

export function contentOf(response: Response): Content {
  const length = response.headers.get('content-length');
  const sizeBytes = length === null ? undefined : Number(length);
  const [, total] = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
  return {
    sizeBytes,
    totalBytes: total === undefined ? sizeBytes : Number(total),
    body: readBody(response),
  };
}

async function* readBody(response: Response): AsyncGenerator<Uint8Array, void, void> {
  try {
    for await (const chunk of response.body ?? []) yield chunk;
  } catch (error) {
    throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the response ended early', { cause: error });
  }
}
