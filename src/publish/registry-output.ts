import type { Digest } from '../core/digest.ts';
import type { Reference } from '../core/image-reference.ts';
import type { ManifestDocument } from '../core/manifest-document.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import type { SociIndex, SociIndexInput } from '../soci/soci-index.ts';
import type { FallbackTag } from '../upstream/pushes/list-in-fallback-tag.ts';
import type { PushedManifest } from '../upstream/pushes/push-manifest.ts';
import type { Target } from '../upstream/target.ts';

/** Something that is pushed, or would be. */
export interface PushedContent {
  readonly kind: 'blob' | 'manifest';
  readonly digest: Digest;
  readonly size: number;
}

export interface RegistryOutputOptions {
  /** Asks the registry what it has, and pushes nothing. */
  readonly isDryRun: boolean;
  /** Called before a manifest is pushed: an event of the push may come before its response. */
  readonly onPushing?: (digest: Digest) => void;
  /** Called with what has been pushed; with `isDryRun`, with what would be. */
  readonly onPush?: (content: PushedContent) => void;
  readonly signal: AbortSignal;
}

/** Pushes the documents of an indexed image to its repository, each unless it is there. */
export class RegistryOutput {
  /** What the repository lacked, in the order of its pushes. */
  readonly pushed: PushedContent[] = [];
  /** Tags that list v1 indexes, because the registry lacks the Referrers API. */
  readonly fallbackTags: FallbackTag[] = [];
  readonly #target: Target;
  readonly #options: RegistryOutputOptions;
  /** One push for each digest: platforms share zTOCs and SOCI indexes. */
  readonly #puts = new Map<Digest, Promise<void>>();

  constructor(target: Target, options: RegistryOutputOptions) {
    this.#target = target;
    this.#options = options;
  }

  putBlob(digest: Digest, bytes: Uint8Array): Promise<void> {
    return this.#once(digest, async () => {
      const { client, repository } = this.#target;
      const { isDryRun, signal } = this.#options;
      const isNew = isDryRun
        ? !(await client.has('blob', repository, digest, signal))
        : await client.pushBlob(repository, digest, bytes, signal);
      if (isNew) this.#note({ kind: 'blob', digest, size: bytes.byteLength });
    });
  }

  putManifest(document: ManifestDocument): Promise<void> {
    return this.#once(document.digest, async () => void (await this.#put(document)));
  }

  /** A SOCI v1 index is found by its subject: where the registry does not list it, the fallback tag does. */
  putIndex({ descriptor, bytes }: SociIndex, subject: SociIndexInput['subject']): Promise<void> {
    const { digest } = descriptor;
    return this.#once(digest, async () => {
      const isListed = await this.#put({ digest, bytes, mediaType: MEDIA_TYPES.ociManifest });
      const { isDryRun, signal } = this.#options;
      if (subject === undefined || isListed) return;
      const { client, repository } = this.#target;
      const tag = await client.listInFallbackTag(repository, subject.digest, descriptor, {
        isDryRun,
        signal,
      });
      if (tag !== undefined) this.fallbackTags.push(tag);
    });
  }

  /** Sets a tag to a manifest. */
  async tag(tag: string, document: ManifestDocument): Promise<void> {
    const { content } = await this.#push({ tag }, document);
    this.#options.onPush?.(content);
  }

  /** @returns whether the registry has said that it lists the manifest as a referrer */
  async #put(document: ManifestDocument): Promise<boolean> {
    const { digest } = document;
    const { client, repository } = this.#target;
    if (await client.has('manifest', repository, digest, this.#options.signal)) return false;
    const { content, isListedReferrer } = await this.#push({ digest }, document);
    this.#note(content);
    return isListedReferrer;
  }

  async #push(
    reference: Reference,
    document: ManifestDocument,
  ): Promise<PushedManifest & { readonly content: PushedContent }> {
    const { client, repository } = this.#target;
    const { isDryRun, signal, onPushing } = this.#options;
    const { digest, bytes } = document;
    const content = { kind: 'manifest', digest, size: bytes.byteLength } as const;
    if (isDryRun) return { content, isListedReferrer: false };
    onPushing?.(digest);
    return { content, ...(await client.pushManifest(repository, reference, document, signal)) };
  }

  #note(content: PushedContent): void {
    this.pushed.push(content);
    this.#options.onPush?.(content);
  }

  #once(digest: Digest, put: () => Promise<void>): Promise<void> {
    const running = this.#puts.get(digest) ?? put();
    this.#puts.set(digest, running);
    return running;
  }
}
