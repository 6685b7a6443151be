import { mountsLazily } from '../../core/client-quirks.ts';
import type { Digest } from '../../core/digest.ts';
import type { Target } from '../../upstream/target.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';

export interface BlobRedirectsDeps {
  /** `redirect.blobs` */
  readonly mode: 'never' | 'whole';
  readonly proofs: BlobProofs;
  /** A signed URL of a blob in the durable tier; `undefined` if it is not there. */
  readonly locate:
    ((upstream: string, digest: Digest, signal: AbortSignal) => Promise<URL | undefined>) | undefined;
}

/** The parts of a request for a blob that decide whether it may be redirected. */
export interface RedirectableRequest {
  readonly range: string | undefined;
  readonly userAgent: string;
  readonly isSizeOnly: boolean;
  readonly isFromReplica: boolean;
  readonly signal: AbortSignal;
}

/**
 * Where clients read whole blobs of upstreams instead of from the proxy. A snapshotter keeps the URL that it
 * is redirected to, and would read every span past the proxy, so it is never redirected.
 */
export class BlobRedirects {
  readonly #deps: BlobRedirectsDeps;

  constructor(deps: BlobRedirectsDeps) {
    this.#deps = deps;
  }

  /**
   * A URL that needs no credentials: of the durable tier, else the one to which the upstream has redirected
   * the proxy. `undefined` if there is none, or if the request wants something else.
   * @throws SpandrelError as {@link BlobProofs.authorize}
   */
  async find(target: Target, digest: Digest, request: RedirectableRequest): Promise<URL | undefined> {
    const { mode, proofs, locate } = this.#deps;
    const { range, userAgent, isSizeOnly, isFromReplica, signal } = request;
    if (mode === 'never' || range !== undefined || isSizeOnly || isFromReplica) return undefined;
    if (mountsLazily(userAgent)) return undefined;
    const { client, repository } = target;
    const url = (await locate?.(client.name, digest, signal)) ?? client.signedBlobUrl(repository, digest);
    if (url !== undefined) await proofs.authorize(target, digest, signal);
    return url;
  }
}
