import { escapeJson } from '../../core/escape-controls.ts';
import type { ByteStream, ContentSource } from '../../images/contents/content.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';

/** What a handler returns. Only `sendResponse` writes to the socket. */
export interface RegistryResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  /**
   * Bytes, or a function that starts a stream, whose errors abort the response. It is not called for HEAD.
   */
  readonly body?: Uint8Array | (() => ByteStream);
  /** For `Cache-Status` and the metrics. */
  readonly source?: ContentSource;
  /** Called once when the response has ended, whether it was sent or aborted. */
  readonly dispose?: () => Promise<void>;
}

/** Headers of every response. `nosniff`: a browser must never treat the content of an image as a page. */
export const COMMON_HEADERS = { 'x-content-type-options': 'nosniff' } as const;

/** For content that is named by its digest. All other responses have `no-cache`: caches must revalidate. */
export const IMMUTABLE = { 'cache-control': 'max-age=31536000, immutable' } as const;

/** A response whose body is in memory. */
export interface BytesResponse extends RegistryResponse {
  readonly body: Uint8Array;
}

/** The value of `Cache-Status` (RFC 9211). A fill is a miss, even if another request started it. */
export function formatCacheStatus(source: ByteSource): string {
  const outcome = source === 'fill' || source === 'upstream' ? 'fwd=uri-miss' : 'hit';
  return `Spandrel; ${outcome}; detail=${source}`;
}

/**
 * A JSON response, safe to print on a terminal. The distribution spec wants a Content-Type without
 * parameters.
 */
export function jsonResponse(
  value: unknown,
  options: { status?: number; contentType?: string; headers?: RegistryResponse['headers'] } = {},
): BytesResponse {
  const body = Buffer.from(escapeJson(JSON.stringify(value)));
  return {
    status: options.status ?? 200,
    headers: {
      'content-type': options.contentType ?? 'application/json',
      'content-length': body.byteLength,
      ...options.headers,
    },
    body,
  };
}
