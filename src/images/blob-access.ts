import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { BlobSource } from '../upstream/blob-source.ts';
import type { ProofTable } from './proof-table.ts';
import { type Target, targetKey } from './target.ts';

export interface BlobAccessDeps {
  readonly proofs: ProofTable;
  /** How long the upstream's word is good. */
  readonly lifetimeMs: number;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Milliseconds of the epoch. */
  readonly now?: () => number;
}

/**
 * Which repositories have which blobs. A digest is not a permission: what is in the store is given to a repository only if its
 * upstream has shown that the repository has it, by sending it or by answering for it.
 */
export class BlobAccess {
  readonly #deps: BlobAccessDeps;
  readonly #now: () => number;
  readonly #flights: SingleFlight<void>;

  constructor(deps: BlobAccessDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? Date.now;
    this.#flights = new SingleFlight('access', deps.metrics);
  }

  /** The blob as the repository has it; that it sends the blob is remembered. */
  source(target: Target, digest: Digest): BlobSource {
    const source = target.client.blobSource(target.repository, digest);
    return {
      fetch: async (range, signal) => {
        const response = await source.fetch(range, signal);
        this.remember(target, digest);
        return response;
      },
    };
  }

  /** The upstream has just shown that the repository has the blob. */
  remember(target: Target, digest: Digest): void {
    const name = proofName(target, digest);
    const before = this.#deps.proofs.provenAtMs(name) ?? 0;
    // Not for each range of a blob.
    if (this.#now() - before > this.#deps.lifetimeMs / 10) this.#deps.proofs.set(name, this.#now());
  }

  /**
   * Resolves if the repository has the blob: as known, or as its upstream says when it is asked. While that cannot be asked, what
   * it has said before is good enough.
   * @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED, an UPSTREAM_* code
   */
  async check(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    const name = proofName(target, digest);
    const provenAtMs = this.#deps.proofs.provenAtMs(name);
    if (provenAtMs !== undefined && this.#now() - provenAtMs < this.#deps.lifetimeMs) return;
    await this.#flights.run(name, () => this.#ask(target, digest, provenAtMs !== undefined), signal);
  }

  async #ask(target: Target, digest: Digest, hadIt: boolean): Promise<void> {
    try {
      await target.client.statBlob(target.repository, digest);
      this.#deps.proofs.set(proofName(target, digest), this.#now());
    } catch (error) {
      if (isSpandrelError(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'UNAUTHORIZED', 'DENIED'))
        this.#deps.proofs.delete(proofName(target, digest));
      const isAway = isSpandrelError(error, 'UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT', 'UPSTREAM_THROTTLED');
      if (!isAway || !hadIt) throw error;
      const { code } = error;
      this.#deps.logger.warn(
        { upstream: target.client.name, blob: digest, code },
        'upstream away: blob served',
      );
    }
  }
}

function proofName(target: Target, digest: Digest): string {
  return `${targetKey(target)} ${digest}`;
}
