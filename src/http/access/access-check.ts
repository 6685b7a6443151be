import type { Target } from '../../upstream/target.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { errorResponse } from '../responses/error-response.ts';
import type { RegistryPath } from '../requests/registry-path.ts';

/** The parts of a request that decide whether it may read. */
export interface AccessRequest {
  /** The `Authorization` header. */
  readonly authorization: string | undefined;
  /** Address of the client. */
  readonly client: string;
  readonly path: RegistryPath;
  /** The requested repository. For `/v2/` its name is empty; `undefined` if no upstream is selected. */
  readonly target: Target | undefined;
  readonly signal: AbortSignal;
}

/** Decides who may read. It is called once for each request, before anything is looked up. */
export interface AccessCheck {
  /** The refusal; `undefined` if the request is admitted. @throws SpandrelError if neither is certain */
  check(request: AccessRequest): Promise<RegistryResponse | undefined>;
}

/** The challenge where the proxy itself takes user and password. UTF-8: RFC 7617, section 2.1. */
export const BASIC_CHALLENGE = 'Basic realm="Spandrel", charset="UTF-8"';

/** 401 with a challenge: Docker, containerd and skopeo send credentials only after it. */
export function demandCredentials(challenge: string): RegistryResponse {
  const answer = errorResponse(
    new SpandrelError('UNAUTHORIZED', 'credentials that may read here are needed'),
  );
  return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
}

/** 403: the credentials are right and not sufficient. */
export function deny(): RegistryResponse {
  return errorResponse(new SpandrelError('DENIED', 'these credentials may not read this repository'));
}
