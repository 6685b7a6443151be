import { ResponseBody } from '../transport/response-body.ts';
import type { TransportResponse } from '../transport/transport.ts';

const MAX_ERROR_BODY_BYTES = 64 * 1024;
/** What ECR says with 403 and ECR Public with 400; others answer 401, which needs no words. */
const EXPIRED = /token (has|is) expired|expired token|reauthenticate/i;

export interface Refusal {
  /** The answer is about a token that has ended. */
  readonly isExpiry: boolean;
  /** The same answer; its body can still be read. */
  readonly response: TransportResponse;
}

/** Tell whether a 400 or 403 to a request with credentials is about those or about the request. Reads its body. */
export async function readRefusal(upstream: string, response: TransportResponse): Promise<Refusal> {
  let bytes: Buffer;
  try {
    bytes = await response.body.read(MAX_ERROR_BODY_BYTES);
  } catch {
    // Whatever else the body is, it is not these words; the status says enough.
    bytes = Buffer.alloc(0);
  }
  return {
    isExpiry: EXPIRED.test(bytes.toString()),
    response: { ...response, body: ResponseBody.of(upstream, bytes) },
  };
}
