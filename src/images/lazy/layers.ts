import type { BlobHandle, BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../blobs/blob-store.ts';
import { readVerifiedBlob } from '../../blobs/read-verified-blob.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, ERRORS, isSpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { skipReason } from '../../soci/skip-reason.ts';
import { type AuthorizedLayer, type Layer, markAuthorized } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { type LayerSummary, streamFault } from '../../index/layer-summary.ts';
import type { BlobAccess } from '../access/blob-access.ts';
import { type ImageConfig, parseImageConfig } from '../documents/image-config.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { KnownLayer, KnownLayers } from '../documents/known-layers.ts';
import { type FaultyDescriptor, isSound } from '../documents/manifest.ts';
import type { Target } from '../../upstream/target.ts';

export interface LayersDeps {
  readonly access: BlobAccess;
  readonly blobs: BlobStore;
  readonly indexes: LayerIndexes;
  readonly knownLayers: KnownLayers;
  readonly policies: IndexPolicies;
  readonly logger: Logger;
}

/** State of a layer as the span API shows it. */
export interface LayerDescription {
  /** As the manifest has it. */
  readonly digest: string;
  readonly mediaType: string | null;
  readonly size: number | null;
  readonly diffId: Digest | null;
  readonly state: 'absent' | 'building' | 'indexed' | 'readable' | 'failed';
  /** An error code, and what it means here. */
  readonly reason?: ErrorCode;
  readonly message?: string;
  /** The manifest says that it is to be fetched from elsewhere. */
  readonly foreign?: boolean;
  /** Why no index is made of it, where that is known without looking into it. */
  readonly skipped?: 'unsupported_format' | 'too_small';
  readonly uncompressedSize?: number;
  /** In its place if the stream cannot be decompressed to its end: the decompressed bytes ahead of the fault. */
  readonly readableSize?: number;
  readonly ztoc?: { readonly digest: Digest; readonly size: number };
  readonly spans?: number;
  /** Most decompressed bytes that a read has to pass over; above 0 only where zstd frames are larger than spans. */
  readonly maxSkippedBytes?: number;
  readonly files?: number;
}

/** Layers that the upstream is asked about at the same time for one image. */
const LAYERS_AT_ONCE = 8;
/** The configs of images are small; a larger blob is none. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
const CONFIG_LIMIT = { maxBytes: MAX_CONFIG_BYTES, code: 'IMAGE_UNSUPPORTED' } as const;

/** Blobs and layers of images, and the rule that a layer is indexed when its blob is first asked for. */
export class Layers {
  readonly #deps: LayersDeps;

  constructor(deps: LayersDeps) {
    this.#deps = deps;
  }

  /** A layer of a repository, with what its image manifest said of it if one has been seen. */
  layer(target: Target, digest: Digest): Layer {
    return {
      digest,
      source: this.#deps.access.source(target, digest),
      claimedBytes: this.#deps.knownLayers.get(target, digest)?.descriptor.size,
      confirm: (signal) => this.#deps.access.confirm(target, digest, signal),
    };
  }

  /** As {@link layer}, if the repository has it. @throws SpandrelError as {@link BlobAccess.check} */
  async authorizedLayer(target: Target, digest: Digest, signal?: AbortSignal): Promise<AuthorizedLayer> {
    await this.#deps.access.check(target, digest, signal);
    return markAuthorized(this.layer(target, digest));
  }

  /** Those of some layers that the repository has. @throws SpandrelError as {@link BlobAccess.check}, but for BLOB_UNKNOWN */
  async heldLayers(
    target: Target,
    digests: readonly Digest[],
  ): Promise<ReadonlyMap<Digest, AuthorizedLayer>> {
    const held = new Map<Digest, AuthorizedLayer>();
    const look = async (digest: Digest): Promise<void> => {
      try {
        held.set(digest, await this.authorizedLayer(target, digest));
      } catch (error) {
        if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      }
    };
    for (let start = 0; start < digests.length; start += LAYERS_AT_ONCE)
      await Promise.all(digests.slice(start, start + LAYERS_AT_ONCE).map(look));
    return held;
  }

  /**
   * Have a layer indexed. Where nothing is known of it yet, its bytes themselves prove that the repository has it.
   * @throws SpandrelError as {@link BlobAccess.check}, and as fills and builds do
   */
  async index(target: Target, digest: Digest): Promise<void> {
    const { blobs, indexes } = this.#deps;
    if (blobs.stat(digest, target.client.name) === undefined && !(await indexes.has(digest)))
      await indexes.build(this.layer(target, digest));
    await indexes.ensure(await this.authorizedLayer(target, digest));
  }

  /** Open a blob for reading; if it is a layer that belongs into a SOCI index, its index is built while the bytes arrive. */
  async readBlob(target: Target, digest: Digest, signal: AbortSignal): Promise<BlobReader> {
    const layer = this.layer(target, digest);
    const reader = await this.#readIfAllowed(target, layer, signal);
    if (this.belongsInIndex(target, digest)) this.#deps.indexes.startBuild(layer);
    return reader;
  }

  /**
   * Bring the blob of a layer into the store, and keep it there while the handle is open.
   * @throws SpandrelError as {@link BlobAccess.check}, `BlobStore.openBlob`
   */
  async openBlob(
    target: Target,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ readonly handle: BlobHandle; readonly held: AuthorizedLayer }> {
    const layer = this.layer(target, digest);
    const { source, claimedBytes } = layer;
    const handle = await this.#openIfAllowed(target, digest, signal, (askFirst) =>
      this.#deps.blobs.openBlob(digest, source, { claimedBytes, signal, askFirst, complete: true }),
    );
    return { handle, held: markAuthorized(layer) };
  }

  /** True if it is known as a layer that belongs into a SOCI index. */
  belongsInIndex(target: Target, digest: Digest): boolean {
    const known = this.#deps.knownLayers.get(target, digest);
    const { v1, v2, minLayerBytes } = this.#deps.policies.of(target);
    return (v1 || v2) && known !== undefined && skipReason(known.descriptor, minLayerBytes) === undefined;
  }

  #readIfAllowed(
    target: Target,
    { digest, source, claimedBytes }: Pick<Layer, 'digest' | 'source' | 'claimedBytes'>,
    signal: AbortSignal | undefined,
  ): Promise<BlobReader> {
    return this.#openIfAllowed(target, digest, signal, (askFirst) =>
      this.#deps.blobs.readBlob(digest, source, { claimedBytes, signal, askFirst }),
    );
  }

  /** Bytes that come from the repository itself prove what else would have to be asked. */
  async #openIfAllowed<T extends BlobReader>(
    target: Target,
    digest: Digest,
    signal: AbortSignal | undefined,
    open: (askFirst: boolean) => Promise<T>,
  ): Promise<T> {
    const { access, blobs } = this.#deps;
    const isKnown = blobs.stat(digest, target.client.name) !== undefined;
    if (isKnown) await access.check(target, digest, signal);
    await using opened = new AsyncDisposableStack();
    const blob = opened.use(await open(!isKnown));
    if (!isKnown && blob.source === 'disk') await access.check(target, digest, signal);
    else if (!isKnown) await access.checkOwn(target, digest, signal);
    opened.move();
    return blob;
  }

  /** Sizes of those layers that have no index yet, in compressed bytes. */
  async unindexedBytes(layers: readonly Descriptor[]): Promise<number[]> {
    const isIndexed = await Promise.all(layers.map(({ digest }) => this.#deps.indexes.has(digest)));
    return layers.filter((_, place) => isIndexed[place] === false).map(({ size }) => size);
  }

  /** Size of a blob without fetching it. @throws SpandrelError BLOB_UNKNOWN */
  async statBlob(
    target: Target,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ sizeBytes: number; cached: boolean }> {
    const storedBytes = await this.#deps.blobs.storedSize(digest);
    if (storedBytes !== undefined) {
      await this.#deps.access.check(target, digest, signal);
      return { sizeBytes: storedBytes, cached: true };
    }
    const sizeBytes = await target.client.statBlob(target.repository, digest, signal);
    this.#deps.access.remember(target, digest);
    return { sizeBytes, cached: false };
  }

  /** What is known of a layer; starts nothing but, at most, the fetch of its image's config. */
  async describe(target: Target, digest: Digest, signal: AbortSignal): Promise<LayerDescription> {
    const known = this.#deps.knownLayers.get(target, digest);
    const state = await this.#deps.indexes.state(await this.authorizedLayer(target, digest, signal));
    if (state.kind === 'complete') return describeSummary(state.summary, known);
    const skipped = known && skipReason(known.descriptor, this.#deps.policies.of(target).minLayerBytes);
    const size = known?.descriptor.size ?? (await this.statBlob(target, digest, signal)).sizeBytes;
    return {
      digest,
      mediaType: known?.descriptor.mediaType ?? null,
      size,
      diffId:
        (known && (await this.knownConfig(target, known.config, signal)).diffIds?.[known.position]) ?? null,
      state: state.kind,
      ...(state.kind === 'failed' ? { reason: state.code, message: state.message } : {}),
      ...(skipped === undefined ? {} : { skipped }),
    };
  }

  /**
   * The parts of an image's config that the proxy has a use for; empty where there is none, or none that can be read.
   * @throws SpandrelError that may be none the next time
   */
  async imageConfig(
    target: Target,
    config: Descriptor | undefined,
    signal?: AbortSignal,
  ): Promise<ImageConfig> {
    if (config === undefined || config.size > MAX_CONFIG_BYTES) return { fault: 'IMAGE_UNSUPPORTED' };
    try {
      const { digest, size: claimedBytes } = config;
      const source = this.#deps.access.source(target, digest);
      const open = (): Promise<BlobReader> =>
        this.#readIfAllowed(target, { digest, source, claimedBytes }, signal);
      const bytes = await readVerifiedBlob(this.#deps.blobs, digest, open, CONFIG_LIMIT, signal);
      return parseImageConfig(bytes);
    } catch (error) {
      if (!isSpandrelError(error) || ERRORS[error.code].retryable) throw error;
      return { fault: error.code };
    }
  }

  /** As {@link imageConfig}, to be shown: empty too if it cannot be had at the moment. */
  async knownConfig(
    target: Target,
    config: Descriptor | undefined,
    signal: AbortSignal,
  ): Promise<ImageConfig> {
    try {
      return await this.imageConfig(target, config, signal);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      this.#deps.logger.debug({ config: config?.digest, code: error.code }, 'no image config');
      return { fault: error.code };
    }
  }

  /** As {@link describe}, for a layer of an image: one that cannot be read has its state and reason too. */
  async describeListed(
    target: Target,
    listed: Descriptor | FaultyDescriptor,
    signal: AbortSignal,
  ): Promise<LayerDescription> {
    const { mediaType, digest } = listed;
    const atFault = { digest, mediaType, size: null, diffId: null, state: 'failed' } as const;
    if (!isSound(listed)) return { ...atFault, reason: listed.fault.code, message: listed.fault.message };
    try {
      return await this.describe(target, listed.digest, signal);
    } catch (error) {
      if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      const isForeign = listed.urls !== undefined && listed.urls.length > 0;
      return {
        ...atFault,
        size: listed.size,
        reason: error.code,
        message: 'the registry does not have it',
        ...(isForeign ? { foreign: true } : {}),
      };
    }
  }
}

function describeSummary(summary: LayerSummary, known: KnownLayer | undefined): LayerDescription {
  const { ztoc, reason } = summary;
  return {
    digest: summary.layerDigest,
    mediaType: known?.descriptor.mediaType ?? MEDIA_TYPES.octetStream,
    size: summary.layerBytes,
    diffId: summary.diffId ?? null,
    state: ztoc === undefined ? 'readable' : 'indexed',
    ...(reason === undefined ? {} : { reason: reason.code, message: reason.message }),
    ...(streamFault(summary) === undefined
      ? { uncompressedSize: summary.uncompressedBytes }
      : { readableSize: summary.uncompressedBytes }),
    ...(ztoc === undefined ? {} : { ztoc: { digest: ztoc.digest, size: ztoc.sizeBytes } }),
    spans: summary.spanCount,
    maxSkippedBytes: summary.maxSkippedBytes,
    files: summary.fileCount,
  };
}
