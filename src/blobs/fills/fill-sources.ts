import type { BlobResponse, BlobSource } from '../../core/sources/blob-source.ts';
import type { BlobTier, TierBlob, TierOutcome } from '../../core/sources/blob-tier.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { AlternativeSources } from './alternative-sources.ts';

/** Where the bytes of a fill come from: its tiers in order, then the repositories that ask for the blob. */
export class FillSources implements BlobSource {
  readonly #blob: TierBlob | undefined;
  readonly #tiers: readonly BlobTier[];
  readonly #repositories: AlternativeSources;
  /** Tiers that sent bytes. */
  readonly #senders = new Set<BlobTier>();
  #sender: BlobTier['name'] | undefined;

  /** @param first source of the request that starts the fill */
  constructor(digest: Digest, first: BlobSource, tiers: readonly BlobTier[]) {
    this.#blob = tierBlobOf(digest, first);
    const isPassedOn = first.isForReplica !== true;
    this.#tiers = this.#blob === undefined ? [] : tiers.filter(({ name }) => isPassedOn || name !== 'peer');
    this.#repositories = new AlternativeSources(first);
  }

  /** Adds another repository that should have the blob. */
  add(source: BlobSource): void {
    this.#repositories.add(source);
  }

  /** The fill uses bytes of an earlier one. The store does not know who sent them. */
  addUnknownSenders(): void {
    this.#repositories.addUnknownSenders();
  }

  /** True if no repository but `repositoryKey`, and no tier, sent a byte. */
  isOnlyFrom(repositoryKey: string | undefined): boolean {
    return this.#senders.size === 0 && this.#repositories.isOnlyFrom(repositoryKey);
  }

  /** True if no byte can have come from a tier. */
  get isFromUpstream(): boolean {
    return this.#senders.size === 0 && (this.#tiers.length === 0 || !this.#repositories.hasUnknownSenders);
  }

  /** The tier that sent the latest response; `undefined` if the upstream did. */
  get tier(): BlobTier['name'] | undefined {
    return this.#sender;
  }

  /** @throws SourceFault if no source sends the range */
  async fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse> {
    if (this.#blob !== undefined)
      for (const tier of this.#tiers) {
        const response = await tier.fetch(this.#blob, range, signal, sizeBytes);
        if (response === undefined) continue;
        this.#senders.add(tier);
        this.#sender = tier.name;
        return response;
      }
    this.#sender = undefined;
    const end = this.#noteUpstreamRead(signal);
    try {
      const response = await this.#repositories.fetch(range, signal, sizeBytes);
      return { ...response, body: untilEnd(response.body, end) };
    } catch (error) {
      end();
      throw error;
    }
  }

  /** @returns to be called when the reading has ended; later calls do nothing */
  #noteUpstreamRead(signal: AbortSignal): () => void {
    const blob = this.#blob;
    if (blob === undefined) return () => undefined;
    const ends = this.#tiers.map((tier) => tier.upstreamRead?.(blob));
    const end = (): void => {
      signal.removeEventListener('abort', end);
      for (const one of ends.splice(0)) one?.();
    };
    // Nobody may ever begin to read the body of an aborted request.
    signal.addEventListener('abort', end, { once: true });
    return end;
  }

  /** Tells the tiers that the fill is over. Only those that sent bytes can have sent wrong ones. */
  end(outcome: TierOutcome): void {
    if (this.#blob === undefined) return;
    for (const tier of this.#tiers)
      tier.ended(this.#blob, outcome === 'wrong' && !this.#senders.has(tier) ? 'failed' : outcome);
  }
}

async function* untilEnd(
  body: AsyncIterable<Buffer>,
  end: () => void,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield* body;
  } finally {
    end();
  }
}

/** `undefined` if the source names no repository. */
function tierBlobOf(digest: Digest, { upstream, repositoryKey }: BlobSource): TierBlob | undefined {
  if (upstream === undefined || repositoryKey === undefined) return undefined;
  return { digest, upstream, repository: repositoryKey.slice(upstream.length + 1) };
}
