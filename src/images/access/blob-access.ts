import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { steadyNow, storedAgeMs } from '../../core/steady-now.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobSource } from '../../upstream/blobs/blob-source.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { Deliveries } from './deliveries.ts';
import type { DeliveryCheck } from './delivery-check.ts';
import { type Grounds, isSameGrounds } from './grounds.ts';
import type { ProofTable } from './proof-table.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface BlobAccessDeps {
  readonly proofs: ProofTable;
  readonly deliveries: Deliveries;
  readonly deliveryCheck: Pick<DeliveryCheck, 'confirm'>;
  /** How long the upstream's word is good. */
  readonly lifetimeMs: number;
  /** For upstreams that are slow to say again what they have said before. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

/** What takes a repository's proof away. */
const REFUSALS = [
  'BLOB_UNKNOWN',
  'MANIFEST_UNKNOWN',
  'NAME_UNKNOWN',
  'UPSTREAM_CREDENTIALS_REFUSED',
  'DENIED',
] as const;

/** Layers that the upstream is asked about at the same time for one thing that was made of them. */
const LAYERS_AT_ONCE = 8;

/** Asks the upstream whether a repository has something. */
type Stat = (signal: AbortSignal) => Promise<unknown>;

/**
 * Which repositories have which blobs and manifests. A digest is not a permission: what is in the store is given to a repository
 * only if its upstream has shown that the repository has it, by sending it or by answering for it, or has what it was made from.
 */
export class BlobAccess implements AsyncDisposable {
  readonly #deps: BlobAccessDeps;
  readonly #now: () => number;
  readonly #flights: PatientFlight<true>;

  constructor(deps: BlobAccessDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? steadyNow;
    this.#flights = new PatientFlight('access', deps.events, deps.patience);
  }

  /** The blob as the repository has it; that it sends the blob is remembered. */
  source(target: Target, digest: Digest): BlobSource & { readonly upstream: string } {
    const source = target.client.blobSource(target.repository, digest);
    return {
      origin: source.origin,
      upstream: target.client.name,
      fetch: async (range, signal, sizeBytes) => {
        const response = await source.fetch(range, signal, sizeBytes);
        if (response.isUnproven !== true) this.remember(target, digest);
        return response;
      },
    };
  }

  /** The upstream has just shown that the repository has the blob or manifest. */
  remember(target: Target, digest: Digest): void {
    this.#note(proofName(target, digest), undefined);
  }

  /** As {@link remember}, for a manifest whose bytes have come, and are right. */
  rememberSent(target: Target, manifest: Digest): void {
    this.#deps.deliveries.note(target.client.name, manifest);
    this.remember(target, manifest);
  }

  /** True if a manifest has come from the upstream of the repository itself, or was made of what the repository has. */
  async isSent(target: Target, manifest: Digest): Promise<boolean> {
    const { deliveries } = this.#deps;
    return this.groundsOf(target, manifest) !== undefined || deliveries.has(target.client.name, manifest);
  }

  /** What has `digest` was made of `grounds`, all of which the repository has. */
  rememberDerived(target: Target, digest: Digest, grounds: Grounds): void {
    this.#note(proofName(target, digest), grounds);
  }

  /** What the thing with `digest` was made of, if it is ours and was given to the repository. */
  groundsOf(target: Target, digest: Digest): Grounds | undefined {
    return this.#deps.proofs.get(proofName(target, digest))?.grounds;
  }

  /** What {@link rememberDerived} has remembered is not so any more. */
  forget(target: Target, digest: Digest): void {
    this.#deps.proofs.delete(proofName(target, digest));
  }

  #note(name: string, grounds: Grounds | undefined): void {
    const before = this.#deps.proofs.get(name);
    const now = this.#now();
    const isRecent = before !== undefined && storedAgeMs(before.provenAtMs, now) < this.#deps.lifetimeMs / 10;
    // Not for each range of a blob.
    if (!isRecent || !isSameGrounds(before.grounds, grounds))
      this.#deps.proofs.set(name, { provenAtMs: now, grounds });
  }

  /**
   * Resolves if the repository has the blob: as known, or as its upstream says when it is asked. While that cannot be asked, or is
   * slow to answer, what it has said before is good enough. What is here from another upstream, its upstream has to send too, once.
   * @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN, DENIED, an UPSTREAM_* code
   */
  async check(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.confirm(target, digest, signal);
    await this.checkOwn(target, digest, signal);
  }

  /** As {@link check}, for a blob that comes from the upstream of the repository itself, or does not come from here at all. */
  async checkOwn(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    const stat: Stat = (closing) => target.client.checkBlob(target.repository, digest, closing);
    await this.#checkGiven(target, digest, stat, signal);
  }

  /** Has the upstream send what of the blob it takes to prove that it has it. */
  async #confirm(
    target: Target,
    digest: Digest,
    isWanted: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { deliveries, deliveryCheck, proofs } = this.#deps;
    if (await deliveries.has(target.client.name, digest)) return;
    const name = proofName(target, digest);
    const confirm = async (closing: AbortSignal): Promise<true> => {
      try {
        await deliveryCheck.confirm(this.source(target, digest), digest, isWanted, closing);
        return true;
      } catch (error) {
        if (isSpandrelError(error, ...REFUSALS)) proofs.delete(name);
        throw error;
      }
    };
    await this.#flights.run(`${isWanted ? 'all' : 'some'} of ${name}`, confirm, signal);
  }

  /** Resolves if the upstream of the repository has sent the blob that is here, or sends what proves that it has it. */
  async confirm(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    if (this.groundsOf(target, digest) === undefined) await this.#confirm(target, digest, false, signal);
  }

  /** As {@link check}, for a manifest. @throws SpandrelError MANIFEST_UNKNOWN, and as {@link check} */
  async checkManifest(target: Target, digest: Digest, signal?: AbortSignal): Promise<void> {
    await this.#checkGiven(target, digest, statManifest(target, digest), signal);
  }

  /** As {@link check}, for all that something was made of. @throws SpandrelError MANIFEST_UNKNOWN, and as {@link check} */
  async checkGrounds(target: Target, { manifests, layers }: Grounds, signal?: AbortSignal): Promise<void> {
    for (const manifest of manifests) await this.checkManifest(target, manifest, signal);
    for (let start = 0; start < layers.length; start += LAYERS_AT_ONCE) {
      const some = layers.slice(start, start + LAYERS_AT_ONCE);
      await Promise.all(some.map((layer) => this.#checkLayer(target, layer, signal)));
    }
  }

  /** What was made of a layer may be here although the layer is not. */
  async #checkLayer(target: Target, layer: Digest, signal: AbortSignal | undefined): Promise<void> {
    await this.#confirm(target, layer, true, signal);
    await this.checkOwn(target, layer, signal);
  }

  async #checkGiven(
    target: Target,
    digest: Digest,
    stat: Stat,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const grounds = this.groundsOf(target, digest);
    if (grounds === undefined) return this.#check(target, digest, stat, signal);
    await this.checkGrounds(target, grounds, signal);
    // What is in use must not be forgotten.
    this.#note(proofName(target, digest), grounds);
  }

  async #check(target: Target, digest: Digest, stat: Stat, signal: AbortSignal | undefined): Promise<void> {
    const name = proofName(target, digest);
    const proof = this.#deps.proofs.get(name);
    if (proof !== undefined && storedAgeMs(proof.provenAtMs, this.#now()) < this.#deps.lifetimeMs) return;
    const ask = (closing: AbortSignal): Promise<true> => this.#ask(target, digest, () => stat(closing));
    if (proof === undefined) await this.#flights.run(name, ask, signal);
    else if ((await this.#flights.runPatiently(name, target.client.name, ask, signal)) === undefined)
      this.#deps.logger.debug(
        { upstream: target.client.name, digest },
        'slow upstream: what it has had is served',
      );
  }

  async #ask(target: Target, digest: Digest, stat: () => Promise<unknown>): Promise<true> {
    const name = proofName(target, digest);
    const hadIt = this.#deps.proofs.get(name) !== undefined;
    try {
      await stat();
      this.#deps.proofs.set(name, { provenAtMs: this.#now(), grounds: undefined });
    } catch (error) {
      if (isSpandrelError(error, ...REFUSALS)) this.#deps.proofs.delete(name);
      if (!isUpstreamAway(error) || !hadIt) throw error;
      const { code } = error;
      this.#deps.logger.warn(
        { upstream: target.client.name, digest, code },
        'upstream away: what it has had is served',
      );
    }
    return true;
  }

  /** Ends questions that go on behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}

function proofName(target: Target, digest: Digest): string {
  return `${targetKey(target)} ${digest}`;
}

function statManifest({ client, repository }: Target, digest: Digest): Stat {
  return (closing) => client.statManifest(repository, { digest }, closing);
}
