import { escapeJson } from '../../core/terminal-text.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';

/** Chunks in order, each good until the next one is asked for. Throwing means that the connection is to be broken. */
export type ByteStream = AsyncGenerator<Uint8Array, void, undefined>;

/** Where bytes come from; a function where that shows only when the first of them is read. */
export type AnswerSource = ByteSource | undefined | (() => ByteSource | undefined);

/** What a handler wants sent. The sender alone writes to the socket. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  /** Bytes, or a stream that is begun only if a body is to be sent (never for HEAD). */
  readonly body?: Uint8Array | (() => ByteStream);
  /** Where the bytes came from; gives `Cache-Status` and the metrics. */
  readonly source?: AnswerSource;
  /** Called once when the answer is over, however it ends. */
  readonly dispose?: () => Promise<void>;
}

/** Content of images must never be taken for a page: browsers go by `Content-Type` alone. */
export const EVERY_ANSWER = { 'x-content-type-options': 'nosniff' } as const;

/** For what a digest names: it never changes. Without it caches ask again, which is the sender's default. */
export const IMMUTABLE = { 'cache-control': 'max-age=31536000, immutable' } as const;

/** One whose body is there. */
export interface BytesAnswer extends Answer {
  readonly body: Uint8Array;
}

/** RFC 9211. A fill means that the upstream is asked, perhaps for somebody else already. */
export function formatCacheStatus(source: ByteSource): string {
  const outcome = source === 'fill' || source === 'upstream' ? 'fwd=uri-miss' : 'hit';
  return `Spandrel; ${outcome}; detail=${source}`;
}

/** A JSON answer, which curl may print on a terminal; Content-Type without parameters, as the distribution spec wants it. */
export function jsonAnswer(
  value: unknown,
  options: { status?: number; contentType?: string; headers?: Answer['headers'] } = {},
): BytesAnswer {
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
