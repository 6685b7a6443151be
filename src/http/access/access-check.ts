import type { Target } from '../../upstream/target.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { errorResponse } from '../responses/error-response.ts';
import type { RegistryPath } from '../requests/registry-path.ts';

/** What decides whether a request may read. */
export interface AccessRequest {
  /** The `Authorization` header. */
  readonly authorization: string | undefined;
  /** Address of the client. */
  readonly client: string;
  readonly path: RegistryPath;
  /** The repository that is asked for; for `/v2/` itself the upstream with an empty name, if the request chooses one. */
  readonly target: Target | undefined;
  readonly signal: AbortSignal;
}

/** Decides who may read. Asked once for every request of the registry listener, whatever it is for, before anything is looked up. */
export interface AccessCheck {
  /** What refuses the request; `undefined` lets it through. @throws SpandrelError if that cannot be decided */
  check(request: AccessRequest): Promise<RegistryResponse | undefined>;
}

/** What a client that names no user is asked for where the proxy itself takes credentials. UTF-8: RFC 7617, section 2.1. */
export const BASIC_CHALLENGE = 'Basic realm="Spandrel", charset="UTF-8"';

/** 401 with a challenge, as Docker, containerd and skopeo want it before they send credentials. */
export function demandCredentials(challenge: string): RegistryResponse {
  const answer = errorResponse(
    new SpandrelError('UNAUTHORIZED', 'credentials that may read here are needed'),
  );
  return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
}

/** 403: whoever it is may not, whatever they send again. */
export function deny(): RegistryResponse {
  return errorResponse(new SpandrelError('DENIED', 'these credentials may not read this repository'));
}
