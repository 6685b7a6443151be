import type { BootLayerWatch } from '../../boot/boot-profile.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Target } from '../../upstream/target.ts';
import type { BootBlobs } from '../boot/boot-blobs.ts';
import type { BootLayers } from '../boot/boot-layers.ts';
import { parseManifest } from '../documents/parse-manifest.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { BootRecipe } from '../proofs/boot-recipe.ts';
import type { BootAnswers } from '../proofs/boot-answers.ts';
import type { BlobRequest } from './blob-contents.ts';
import { type Content, noBytes } from './content.ts';

export interface BootContentsDeps {
  readonly bootAnswers: BootAnswers;
  readonly bootLayers: BootLayers;
  readonly bootBlobs: BootBlobs;
  readonly proofs: BlobProofs;
  readonly manifests: Pick<Manifests, 'get'>;
  readonly startWatch: BootLayerWatch;
  readonly events: Events;
}

/**
 * Boot layers, and the configs that have them, as blobs. A repository gets a boot layer if it has all layers
 * that it is copied from, and the config if it has the image.
 */
export class BootContents {
  readonly #deps: BootContentsDeps;

  constructor(deps: BootContentsDeps) {
    this.#deps = deps;
  }

  /**
   * The blob; `undefined` if no tag has named it, as far as this replica knows, or if the repository lacks
   * what it was made from.
   * @throws SpandrelError as `BlobProofs.authorizeDerivation`; errors of fills and builds
   */
  async openKnown(target: Target, digest: Digest, request: BlobRequest): Promise<Content | undefined> {
    return this.#open(target, this.#deps.bootAnswers.knownBlob(digest), digest, request);
  }

  /** As {@link openKnown}, for a digest that nobody else knows: another replica may have named it. */
  async openFound(target: Target, digest: Digest, request: BlobRequest): Promise<Content | undefined> {
    return this.#open(target, await this.#deps.bootAnswers.findBlob(target, digest), digest, request);
  }

  async #open(
    target: Target,
    recipes: readonly BootRecipe[],
    digest: Digest,
    request: BlobRequest,
  ): Promise<Content | undefined> {
    const { proofs } = this.#deps;
    for (const recipe of recipes) {
      const { image, layers } = recipe;
      const isLayer = recipe.layer.digest === digest;
      const derivation = isLayer
        ? { image, manifests: [], layers }
        : { image, manifests: [image], layers: [] };
      if (!(await proofs.hasAll(target, derivation, request.signal))) continue;
      return isLayer ? this.#layer(target, recipe, request) : this.#config(target, recipe, request);
    }
    return undefined;
  }

  async #layer(target: Target, recipe: BootRecipe, request: BlobRequest): Promise<Content> {
    const { bootBlobs, events, startWatch } = this.#deps;
    const { signal, client, forwardedClient } = request;
    const { digest, size } = recipe.layer;
    if (request.isSizeOnly) return { ...sharedBy(digest), sizeBytes: size, source: 'disk', read: noBytes };
    const blob = await bootBlobs.open(target, recipe, signal);
    events.boot.layerServed();
    startWatch.served(target, forwardedClient ?? client, recipe.files);
    return {
      ...sharedBy(digest),
      sizeBytes: blob.sizeBytes,
      source: blob.source,
      async *read(range) {
        for await (const bytes of blob.readShared(range, signal)) {
          events.boot.layerSent(bytes.byteLength);
          yield bytes;
        }
      },
      dispose: async () => blob[Symbol.asyncDispose](),
    };
  }

  async #config(target: Target, recipe: BootRecipe, { signal }: BlobRequest): Promise<Content> {
    const { manifests, bootLayers } = this.#deps;
    const { manifest } = await manifests.get(target, { digest: recipe.image }, signal);
    const image = parseManifest(manifest);
    if (image.kind !== 'image') throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image became an index');
    const bytes = await bootLayers.readConfig(target, recipe, image, signal);
    return {
      ...sharedBy(recipe.config.digest),
      sizeBytes: bytes.byteLength,
      source: 'disk',
      async *read({ start, end }) {
        yield bytes.subarray(start, end);
      },
    };
  }
}

function sharedBy(digest: Digest): Pick<Content, 'mediaType' | 'etag' | 'digest' | 'isImmutable'> {
  return { mediaType: MEDIA_TYPES.octetStream, etag: digest, digest, isImmutable: true };
}
