import { ResponseBody } from '../transport/response-body.ts';
import type { TransportResponse } from '../transport/transport.ts';

const MAX_ERROR_BODY_BYTES = 64 * 1024;
/**
 * Messages of expired tokens: ECR sends them with 403, ECR Public with 400. Other registries send 401, which
 * needs no message.
 */
const EXPIRED = /token (has|is) expired|expired token|reauthenticate/i;

export interface Refusal {
  /** The token has expired. */
  readonly isExpiry: boolean;
  /** The same response; its body can still be read. */
  readonly response: TransportResponse;
}

/**
 * Decides whether a 400 or 403 to a request with credentials means that these have expired. Reads the body.
 */
export async function readRefusal(upstream: string, response: TransportResponse): Promise<Refusal> {
  let bytes: Buffer;
  try {
    bytes = await response.body.read(MAX_ERROR_BODY_BYTES);
  } catch {
    // A body that cannot be read has no such message.
    bytes = Buffer.alloc(0);
  }
  return {
    isExpiry: EXPIRED.test(bytes.toString()),
    response: { ...response, body: ResponseBody.of(upstream, bytes) },
  };
}
