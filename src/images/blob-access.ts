import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { BlobSource } from '../upstream/blob-source.ts';
import { isUpstreamAway } from '../upstream/fault-kinds.ts';
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

/** Asks the upstream whether a repository has something. */
type Stat = () => Promise<unknown>;

/**
 * Which repositories have which blobs and manifests. A digest is not a permission: what is in the store is given to a repository
 * only if its upstream has shown that the repository has it, by sending it or by answering for it, or has what it was made from.
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

  /** The upstream has just shown that the repository has the blob or manifest. */
  remember(target: Target, digest: Digest): void {
    this.#note(proofName(target, digest), undefined);
  }

  /** What has `digest` was made out of `origin`, a manifest of the repository: whoever may have that may have this. */
  rememberDerived(target: Target, digest: Digest, origin: Digest): void {
    this.#note(proofName(target, digest), origin);
  }

  #note(name: string, origin: Digest | undefined): void {
    const before = this.#deps.proofs.get(name);
    const now = this.#now();
    const isRecent = before !== undefined && now - before.provenAtMs < this.#deps.lifetimeMs / 10;
    // Not for each range of a blob.
    if (!isRecent || before.origin !== origin) this.#deps.proofs.set(name, { provenAtMs: now, origin });
  }

  /**
   * Resolves if the repository has the blob: as known, or as its upstream says when it is asked. While that cannot be asked, what
   * it has said before is good enough.
   * @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED, an UPSTREAM_* code
   */
  async check(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.#checkOrigin(target, digest, () => target.client.statBlob(target.repository, digest), signal);
  }

  /** As {@link check}, for a manifest. @throws SpandrelError MANIFEST_UNKNOWN, and as {@link check} */
  async checkManifest(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.#checkOrigin(target, digest, statManifest(target, digest), signal);
  }

  async #checkOrigin(
    target: Target,
    digest: Digest,
    stat: Stat,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const name = proofName(target, digest);
    const origin = this.#deps.proofs.get(name)?.origin;
    if (origin === undefined) return this.#check(target, digest, stat, signal);
    await this.#check(target, origin, statManifest(target, origin), signal);
    // What is in use must not be forgotten.
    this.#note(name, origin);
  }

  async #check(target: Target, digest: Digest, stat: Stat, signal: AbortSignal | undefined): Promise<void> {
    const name = proofName(target, digest);
    const proof = this.#deps.proofs.get(name);
    if (proof !== undefined && this.#now() - proof.provenAtMs < this.#deps.lifetimeMs) return;
    await this.#flights.run(name, () => this.#ask(target, digest, stat, proof !== undefined), signal);
  }

  async #ask(target: Target, digest: Digest, stat: Stat, hadIt: boolean): Promise<void> {
    try {
      await stat();
      this.#deps.proofs.set(proofName(target, digest), { provenAtMs: this.#now(), origin: undefined });
    } catch (error) {
      if (
        isSpandrelError(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN', 'UNAUTHORIZED', 'DENIED')
      )
        this.#deps.proofs.delete(proofName(target, digest));
      if (!isUpstreamAway(error) || !hadIt) throw error;
      const { code } = error;
      this.#deps.logger.warn(
        { upstream: target.client.name, digest, code },
        'upstream away: what it has had is served',
      );
    }
  }
}

function proofName(target: Target, digest: Digest): string {
  return `${targetKey(target)} ${digest}`;
}

function statManifest({ client, repository }: Target, digest: Digest): Stat {
  return () => client.statManifest(repository, { digest });
}
