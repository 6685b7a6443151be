import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Reference } from '../../core/image-reference.ts';
import type { Target } from '../../upstream/target.ts';
import type { ConfigGate } from './config-gate.ts';
import type { LazyImages } from '../lazy/lazy-images.ts';
import type { LostDocuments } from '../lazy/lost-documents.ts';
import type { AutomaticPublications } from '../operations/automatic-publications.ts';
import type { FoundManifest } from '../manifests/manifests.ts';
import type { ServedImages } from '../manifests/served-images.ts';
import type { Content, ContentReader } from './content.ts';

export interface ManifestContentsDeps {
  readonly lostDocuments: LostDocuments;
  readonly lazyImages: LazyImages;
  readonly configGate: ConfigGate;
  readonly servedImages: ServedImages;
  readonly publications: AutomaticPublications;
}

/** The parts of a request for a manifest that decide what its tag answers. */
export interface ManifestRequest extends ContentReader {
  readonly userAgent: string;
  /** All `Accept` lines. */
  readonly accept: string;
  /** The proxy is a mirror to the client (`?ns=`). */
  readonly isMirrored: boolean;
}

/** A manifest, with what the upstream said about it. */
export interface ManifestContent extends Content {
  readonly rateLimit: FoundManifest['rateLimit'];
  readonly stale: FoundManifest['stale'] | undefined;
}

/**
 * What a request for a manifest gets: a digest its own bytes, a tag the image in the form for this client.
 */
export class ManifestContents {
  readonly #deps: ManifestContentsDeps;

  constructor(deps: ManifestContentsDeps) {
    this.#deps = deps;
  }

  /** @throws SpandrelError as `LostDocuments.get` */
  async open(target: Target, reference: Reference, request: ManifestRequest): Promise<ManifestContent> {
    const found = await this.#deps.lostDocuments.get(target, reference, request.signal);
    const { source, rateLimit, stale } = found;
    let { manifest } = found;
    if ('tag' in reference) manifest = await this.#imageOfTag(target, reference.tag, found, request);
    else await this.#note(manifest, request);
    const { bytes, digest, mediaType } = manifest;
    return {
      sizeBytes: bytes.byteLength,
      mediaType,
      etag: digest,
      digest,
      isImmutable: !('tag' in reference),
      source,
      rateLimit,
      stale,
      async *read({ start, end }) {
        yield bytes.subarray(start, end);
      },
    };
  }

  async #imageOfTag(
    target: Target,
    tag: string,
    { manifest: original, stale }: FoundManifest,
    { userAgent, accept, isMirrored, signal }: ManifestRequest,
  ): Promise<ManifestDocument> {
    const request = { userAgent, accept, isMirrored, isStale: stale !== undefined };
    const image = await this.#deps.lazyImages.answer(target, original, request, signal);
    this.#deps.servedImages.note(target, tag, original.digest, image.digest);
    if (stale === undefined) this.#deps.publications.noteRequest(target, tag, original.digest);
    return image;
  }

  /** The `mirror` form needs the order of the client's next requests. */
  async #note(manifest: ManifestDocument, { client, isMirrored }: ManifestRequest): Promise<void> {
    if (!isMirrored) return;
    this.#deps.configGate.note(client, manifest.digest, 'requested');
    await this.#deps.configGate.learn(client, manifest);
  }
}
