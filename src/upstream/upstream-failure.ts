import { type ErrorCode, SpandrelError } from '../core/errors.ts';
import type { TransportResponse } from './transport.ts';

const MAX_ERROR_BODY_BYTES = 64 * 1024;

/** The errors that a 404 may mean; which one, the body says if it says anything. */
type UnknownCode = 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN' | 'NAME_UNKNOWN';

/** What an answer that is no success means. Its body is read, and nothing of it but the code gets out. */
export async function readFailure(
  upstream: string,
  response: TransportResponse,
  unknown: UnknownCode,
): Promise<SpandrelError> {
  const ociCode = await readOciCode(response);
  const code = codeOf(response.status, ociCode, unknown);
  const detail = {
    upstream,
    status: response.status,
    ...(ociCode === undefined ? {} : { upstreamCode: ociCode }),
  };
  const said = ociCode === undefined ? String(response.status) : `${response.status} ${ociCode}`;
  return new SpandrelError(code, `upstream ${upstream} answered ${said}`, { detail });
}

function codeOf(status: number, ociCode: string | undefined, unknown: UnknownCode): ErrorCode {
  switch (status) {
    case 401:
      return 'UNAUTHORIZED';
    case 403:
      return 'DENIED';
    case 404:
      return ociCode === 'NAME_UNKNOWN' ? 'NAME_UNKNOWN' : unknown;
    case 408:
    case 504:
      return 'UPSTREAM_TIMEOUT';
    case 429:
      return 'UPSTREAM_THROTTLED';
    default:
      return status >= 500 && status !== 501 ? 'UPSTREAM_UNREACHABLE' : 'UPSTREAM_PROTOCOL';
  }
}

/** First code of an OCI error body: distribution spec, "Error Codes". */
async function readOciCode(response: TransportResponse): Promise<string | undefined> {
  try {
    const body = JSON.parse((await response.body.read(MAX_ERROR_BODY_BYTES)).toString()) as {
      errors?: readonly { code?: unknown }[];
    } | null;
    const code = body?.errors?.[0]?.code;
    return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : undefined;
  } catch {
    // Any body is allowed here, none and a broken one too; the status says enough.
    return undefined;
  }
}
