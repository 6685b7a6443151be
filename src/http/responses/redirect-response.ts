import type { Digest } from '../../core/digest.ts';
import type { RegistryResponse } from './registry-response.ts';

/**
 * Sends the client to a signed URL, which is not to be kept: it is valid for some minutes. A 307 keeps the
 * method (RFC 9110, section 15.4.8), and clients do not send their credentials to another host.
 */
export function redirectResponse(url: URL, digest: Digest): RegistryResponse {
  return {
    status: 307,
    headers: {
      location: url.href,
      'docker-content-digest': digest,
      'cache-control': 'no-store',
      'content-length': 0,
    },
  };
}
