import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { steadyNow, storedAgeMs } from '../../core/steady-now.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobSource } from '../../core/sources/blob-source.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { Deliveries } from './deliveries.ts';
import type { DeliveryCheck } from './delivery-check.ts';
import { type Derivation, isSameDerivation } from './derivation.ts';
import type { ProofTable } from './proof-table.ts';
import { nameOf, type Provable, type SharedProofs } from './shared-proofs.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface BlobProofsDeps {
  readonly table: ProofTable;
  readonly deliveries: Deliveries;
  /** Proofs of other replicas. */
  readonly sharedProofs?: SharedProofs | undefined;
  readonly deliveryCheck: Pick<DeliveryCheck, 'confirm'>;
  /** How long a proof is valid. */
  readonly lifetimeMs: number;
  /** Bounds the wait for an upstream that is slow to renew a proof. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

/** Errors of an upstream that end a repository's proof. */
const REFUSALS = [
  'BLOB_UNKNOWN',
  'MANIFEST_UNKNOWN',
  'NAME_UNKNOWN',
  'UPSTREAM_CREDENTIALS_REFUSED',
  'DENIED',
] as const;

/** Layers of one derivation that the upstream is asked about at the same time. */
const LAYERS_AT_ONCE = 8;

/** Asks the upstream whether a repository has something. */
type Stat = (signal: AbortSignal) => Promise<unknown>;

/**
 * Proves which repositories have which blobs and manifests. A digest is not a permission: a repository gets
 * bytes from the store only if its upstream has sent or confirmed them for that repository, or if it has
 * everything that they were made from.
 */
export class BlobProofs implements AsyncDisposable {
  readonly #deps: BlobProofsDeps;
  readonly #now: () => number;
  readonly #flights: PatientFlight<true>;

  constructor(deps: BlobProofsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? steadyNow;
    this.#flights = new PatientFlight('access', deps.events, deps.patience);
  }

  /** The blob in the repository. When the upstream sends it, that is remembered as a proof. */
  source(target: Target, digest: Digest): BlobSource & { readonly upstream: string } {
    const source = target.client.blobSource(target.repository, digest);
    return {
      repositoryKey: source.repositoryKey,
      upstream: target.client.name,
      fetch: async (range, signal, sizeBytes) => {
        const response = await source.fetch(range, signal, sizeBytes);
        if (response.isUnproven !== true) this.remember(target, digest);
        return response;
      },
    };
  }

  /** The upstream has just proven that the repository has the blob or manifest. */
  remember(target: Target, digest: Digest): void {
    this.#note(provableOf(target, digest), undefined);
  }

  /** As {@link remember}, for a manifest whose verified bytes the upstream has sent. */
  rememberSent(target: Target, manifest: Digest): void {
    this.#deps.deliveries.note(target.client.name, manifest);
    this.remember(target, manifest);
  }

  /** True if the repository's upstream has sent the manifest, or if it was derived for the repository. */
  async isSent(target: Target, manifest: Digest): Promise<boolean> {
    const { deliveries } = this.#deps;
    return this.derivationOf(target, manifest) !== undefined || deliveries.has(target.client.name, manifest);
  }

  /** `digest` was made from `derivation`, all of which the repository has. */
  rememberDerived(target: Target, digest: Digest, derivation: Derivation): void {
    this.#note(provableOf(target, digest), derivation);
  }

  /** What `digest` was made from, if the proxy made it for this repository. */
  derivationOf(target: Target, digest: Digest): Derivation | undefined {
    return this.#deps.table.get(proofName(target, digest))?.derivation;
  }

  /** Reverses {@link rememberDerived}. */
  forget(target: Target, digest: Digest): void {
    this.#deps.table.delete(proofName(target, digest));
  }

  #note(proven: Provable, derivation: Derivation | undefined): void {
    const name = nameOf(proven);
    const before = this.#deps.table.get(name);
    const now = this.#now();
    const isRecent = before !== undefined && storedAgeMs(before.provenAtMs, now) < this.#deps.lifetimeMs / 10;
    // Once per tenth of the lifetime, not for each range of a blob.
    if (isRecent && isSameDerivation(before.derivation, derivation)) return;
    this.#deps.table.set(name, { provenAtMs: now, derivation });
    if (derivation === undefined) this.#deps.sharedProofs?.note(proven, now);
  }

  /**
   * Resolves if the repository has the blob, by a valid proof or by a request to its upstream. If the
   * upstream is away or slow, an expired proof is enough. If the stored bytes came from another upstream,
   * this one must also send enough of them, once.
   * @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN, DENIED, an UPSTREAM_* code
   */
  async authorize(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.confirm(target, digest, signal);
    await this.authorizeOwn(target, digest, signal);
  }

  /** As {@link authorize}, for bytes that come from the repository's own upstream, or that are not served. */
  async authorizeOwn(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    const stat: Stat = (closing) => target.client.checkBlob(target.repository, digest, closing);
    await this.#authorizeBy(target, digest, stat, signal);
  }

  /** Makes the upstream prove that it has the blob by sending enough of it. */
  async #confirm(
    target: Target,
    digest: Digest,
    isWanted: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { deliveries, deliveryCheck } = this.#deps;
    if (await deliveries.has(target.client.name, digest)) return;
    const proven = provableOf(target, digest);
    const confirm = async (closing: AbortSignal): Promise<true> => {
      try {
        await deliveryCheck.confirm(this.source(target, digest), digest, isWanted, closing);
        return true;
      } catch (error) {
        if (isSpandrelError(error, ...REFUSALS)) this.#forgetProof(proven);
        throw error;
      }
    };
    await this.#flights.run(`${isWanted ? 'all' : 'some'} of ${nameOf(proven)}`, confirm, signal);
  }

  /**
   * Resolves if the repository's upstream has sent the blob, or now sends enough of it to prove that it has
   * it.
   */
  async confirm(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    if (this.derivationOf(target, digest) === undefined) await this.#confirm(target, digest, false, signal);
  }

  /**
   * As {@link authorize}, for a manifest.
   * @throws SpandrelError MANIFEST_UNKNOWN; as {@link authorize}
   */
  async authorizeManifest(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.#authorizeBy(target, digest, statManifest(target, digest), signal);
  }

  /**
   * As {@link authorize}, for everything that something was made from.
   * @throws SpandrelError MANIFEST_UNKNOWN; as {@link authorize}
   */
  async authorizeDerivation(
    target: Target,
    { manifests, layers }: Derivation,
    signal?: AbortSignal,
  ): Promise<void> {
    for (const manifest of manifests) await this.authorizeManifest(target, manifest, signal);
    for (let start = 0; start < layers.length; start += LAYERS_AT_ONCE) {
      const some = layers.slice(start, start + LAYERS_AT_ONCE);
      await Promise.all(some.map((layer) => this.#authorizeLayer(target, layer, signal)));
    }
  }

  /**
   * True if the repository has everything that something was made from.
   * @throws SpandrelError if that is not known
   */
  async hasAll(target: Target, derivation: Derivation, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.authorizeDerivation(target, derivation, signal);
      return true;
    } catch (error) {
      if (!isSpandrelError(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN')) throw error;
      return false;
    }
  }

  /** The layer itself need not be stored, only what was made from it. */
  async #authorizeLayer(target: Target, layer: Digest, signal: AbortSignal | undefined): Promise<void> {
    await this.#confirm(target, layer, true, signal);
    await this.authorizeOwn(target, layer, signal);
  }

  async #authorizeBy(
    target: Target,
    digest: Digest,
    stat: Stat,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const derivation = this.derivationOf(target, digest);
    if (derivation === undefined) return this.#ensureProof(target, digest, stat, signal);
    await this.authorizeDerivation(target, derivation, signal);
    // Renew the proof: it is in use.
    this.#note(provableOf(target, digest), derivation);
  }

  async #ensureProof(
    target: Target,
    digest: Digest,
    stat: Stat,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const proven = provableOf(target, digest);
    const name = nameOf(proven);
    const { table, lifetimeMs, sharedProofs } = this.#deps;
    const isValid = (atMs: number | undefined): boolean =>
      atMs !== undefined && storedAgeMs(atMs, this.#now()) < lifetimeMs;
    let provenAtMs = table.get(name)?.provenAtMs;
    if (isValid(provenAtMs)) return;
    const shared = await sharedProofs?.find(proven, this.#now());
    if (shared !== undefined && shared > (provenAtMs ?? 0)) {
      provenAtMs = shared;
      table.set(name, { provenAtMs, derivation: undefined });
    }
    if (isValid(provenAtMs)) return;
    const renew = (closing: AbortSignal): Promise<true> =>
      this.#renewProof(target, proven, () => stat(closing));
    if (provenAtMs === undefined) await this.#flights.run(name, renew, signal);
    else if ((await this.#flights.runPatiently(name, target.client.name, renew, signal)) === undefined)
      this.#deps.logger.debug(
        { upstream: target.client.name, digest },
        'slow upstream: served by an expired proof',
      );
  }

  async #renewProof(target: Target, proven: Provable, stat: () => Promise<unknown>): Promise<true> {
    const name = nameOf(proven);
    const hadIt = this.#deps.table.get(name) !== undefined;
    try {
      await stat();
      const provenAtMs = this.#now();
      this.#deps.table.set(name, { provenAtMs, derivation: undefined });
      this.#deps.sharedProofs?.note(proven, provenAtMs);
    } catch (error) {
      if (isSpandrelError(error, ...REFUSALS)) this.#forgetProof(proven);
      if (!isUpstreamAway(error) || !hadIt) throw error;
      const { code } = error;
      this.#deps.logger.warn(
        { upstream: target.client.name, digest: proven.digest, code },
        'upstream away: served by an expired proof',
      );
    }
    return true;
  }

  /** The upstream denies it. */
  #forgetProof(proven: Provable): void {
    this.#deps.table.delete(nameOf(proven));
    this.#deps.sharedProofs?.forget(proven);
  }

  /** Ends requests that continue in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}

function provableOf(target: Target, digest: Digest): Provable {
  return { repository: targetKey(target), digest };
}

function proofName(target: Target, digest: Digest): string {
  return nameOf(provableOf(target, digest));
}

function statManifest({ client, repository }: Target, digest: Digest): Stat {
  return (closing) => client.statManifest(repository, { digest }, closing);
}
