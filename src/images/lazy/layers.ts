import type { BlobHandle, BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../blobs/blob-store.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { type SkipReason, skipReason, tarSkipReason } from '../../soci/skip-reason.ts';
import { type AuthorizedLayer, type Layer, markAuthorized } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import { type LayerSummary, type NoZtocReason, streamFault } from '../../index/layer-summary.ts';
import type { TarRecords } from '../proofs/tar-records.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import { openAuthorizedBlob } from '../proofs/open-authorized-blob.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import { frameCost } from './frame-cost.ts';
import { type IndexPolicies, type IndexPolicy, servesTars, type TarSpanSizes } from './index-policy.ts';
import type { KnownLayer, KnownLayers } from '../documents/known-layers.ts';
import { type FaultyDescriptor, isSound } from '../documents/parse-manifest.ts';
import type { Target } from '../../upstream/target.ts';

export interface LayersDeps {
  readonly proofs: BlobProofs;
  readonly blobs: BlobStore;
  readonly indexes: LayerIndexes;
  readonly knownLayers: KnownLayers;
  readonly policies: IndexPolicies;
  readonly configs: ImageConfigs;
  readonly tarRecords: TarRecords;
  readonly spanSetting: TarSpanSizes;
  /** `limits.maxSkippedBytes`. */
  readonly maxSkippedBytes: number;
}

/** State of a layer in the span API. */
export interface LayerDescription {
  /** As in the manifest. */
  readonly digest: string;
  readonly mediaType: string | null;
  readonly size: number | null;
  readonly diffId: Digest | null;
  readonly state: 'absent' | 'building' | 'indexed' | 'readable' | 'failed';
  /** An error code, and its meaning here. */
  readonly reason?: ErrorCode;
  readonly message?: string;
  /** The manifest says to fetch it from another place. */
  readonly foreign?: boolean;
  /** Why it gets no index, if the manifest alone tells. */
  readonly skipped?: 'unsupported_format' | 'too_small';
  /** Of this repository, in bytes; present if the layer is `too_small`. */
  readonly minLayerBytes?: number;
  readonly uncompressedSize?: number;
  /** Instead of `uncompressedSize` if the stream is faulty: decompressed bytes before the fault. */
  readonly readableSize?: number;
  readonly ztoc?: { readonly digest: Digest; readonly size: number };
  /** Its tar, if tags name that in its place. */
  readonly tar?: { readonly digest: Digest; readonly size: number; readonly spanBytes: number };
  readonly spans?: number;
  /** Most decompressed bytes that a read must skip; above 0 only if zstd frames are larger than spans. */
  readonly maxSkippedBytes?: number;
  readonly files?: number;
}

/** Layers of one image that the upstream is asked about at the same time. */
const LAYERS_AT_ONCE = 8;

/** Blobs and layers of images. A layer is indexed when its blob is first requested. */
export class Layers {
  readonly #deps: LayersDeps;

  constructor(deps: LayersDeps) {
    this.#deps = deps;
  }

  /** A layer of a repository, with the size from its image manifest if that is known. */
  layer(target: Target, digest: Digest): Layer {
    const { proofs, knownLayers, policies, spanSetting } = this.#deps;
    return {
      digest,
      source: proofs.source(target, digest),
      claimedBytes: knownLayers.get(target, digest)?.descriptor.size,
      tarSpanBytes: servesTars(policies.of(target)) ? () => spanSetting.of(target) : undefined,
      confirm: (signal) => proofs.confirm(target, digest, signal),
    };
  }

  /**
   * As {@link layer}, if the repository has it.
   * @throws SpandrelError as {@link BlobProofs.authorize}
   */
  async authorizedLayer(target: Target, digest: Digest, signal?: AbortSignal): Promise<AuthorizedLayer> {
    await this.#deps.proofs.authorize(target, digest, signal);
    return markAuthorized(this.layer(target, digest));
  }

  /**
   * As {@link authorizedLayer}; for a tar that tags name, its layer: both decompress to the same.
   */
  async readableLayer(target: Target, digest: Digest, signal?: AbortSignal): Promise<AuthorizedLayer> {
    for (const { layer } of this.#deps.tarRecords.find(target, digest)) {
      try {
        return await this.authorizedLayer(target, layer, signal);
      } catch (error) {
        if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      }
    }
    return this.authorizedLayer(target, digest, signal);
  }

  /**
   * The layers that the repository has.
   * @throws SpandrelError as {@link BlobProofs.authorize}, except BLOB_UNKNOWN
   */
  async authorizedLayers(
    target: Target,
    digests: readonly Digest[],
  ): Promise<ReadonlyMap<Digest, AuthorizedLayer>> {
    const authorized = new Map<Digest, AuthorizedLayer>();
    const authorize = async (digest: Digest): Promise<void> => {
      try {
        authorized.set(digest, await this.authorizedLayer(target, digest));
      } catch (error) {
        if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      }
    };
    for (let start = 0; start < digests.length; start += LAYERS_AT_ONCE)
      await Promise.all(digests.slice(start, start + LAYERS_AT_ONCE).map(authorize));
    return authorized;
  }

  /**
   * Indexes a layer. If nothing is known of it yet, its bytes from the upstream prove that the repository has
   * it.
   * @throws SpandrelError as {@link BlobProofs.authorize}; errors of fills and builds
   */
  async index(target: Target, digest: Digest): Promise<LayerIndex> {
    const { blobs, indexes } = this.#deps;
    if (blobs.stat(digest, target.client.name) === undefined && !(await indexes.has(digest)))
      await indexes.build(this.layer(target, digest));
    return indexes.ensure(await this.authorizedLayer(target, digest));
  }

  /**
   * Opens a blob for reading. If it is a layer that belongs in a SOCI index, its index is built while the
   * bytes arrive, unless another replica reads it.
   */
  async readBlob(
    target: Target,
    digest: Digest,
    { isFromReplica = false, signal }: { readonly isFromReplica?: boolean; readonly signal: AbortSignal },
  ): Promise<BlobReader> {
    const layer = this.layer(target, digest);
    const { claimedBytes } = layer;
    const source = isFromReplica ? { ...layer.source, isForReplica: true } : layer.source;
    const reader = await openAuthorizedBlob(this.#deps, target, digest, signal, (askFirst) =>
      this.#deps.blobs.readBlob(digest, source, { claimedBytes, signal, askFirst }),
    );
    if (!isFromReplica && this.belongsInIndex(target, digest)) this.#deps.indexes.startBuild(layer);
    return reader;
  }

  /**
   * Fetches the blob of a layer into the store, and keeps it there while the handle is open.
   * @throws SpandrelError as {@link BlobProofs.authorize}, `BlobStore.openBlob`
   */
  async openBlob(
    target: Target,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ readonly handle: BlobHandle; readonly layer: AuthorizedLayer }> {
    const layer = this.layer(target, digest);
    const { source, claimedBytes } = layer;
    const handle = await openAuthorizedBlob(this.#deps, target, digest, signal, (askFirst) =>
      this.#deps.blobs.openBlob(digest, source, { claimedBytes, signal, askFirst, complete: true }),
    );
    return { handle, layer: markAuthorized(layer) };
  }

  /** True if it is known to be a layer that belongs in a SOCI index. */
  belongsInIndex(target: Target, digest: Digest): boolean {
    const known = this.#deps.knownLayers.get(target, digest);
    const policy = this.#deps.policies.of(target);
    return (policy.v1 || policy.v2) && known !== undefined && skip(known.descriptor, policy) === undefined;
  }

  /** Compressed sizes of the layers that have no index yet. */
  async unindexedBytes(layers: readonly Descriptor[]): Promise<number[]> {
    const isIndexed = await Promise.all(layers.map(({ digest }) => this.#deps.indexes.has(digest)));
    return layers.filter((_, place) => isIndexed[place] === false).map(({ size }) => size);
  }

  /**
   * Size of a blob, without fetching it.
   * @throws SpandrelError BLOB_UNKNOWN
   */
  async statBlob(
    target: Target,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ sizeBytes: number; cached: boolean }> {
    const storedBytes = await this.#deps.blobs.storedSize(digest);
    if (storedBytes !== undefined) {
      await this.#deps.proofs.authorize(target, digest, signal);
      return { sizeBytes: storedBytes, cached: true };
    }
    const keptBytes = await this.#deps.blobs.sizeInTiers(digest, target.client.name, signal);
    if (keptBytes !== undefined) {
      await this.#deps.proofs.authorize(target, digest, signal);
      return { sizeBytes: keptBytes, cached: true };
    }
    const sizeBytes = await target.client.statBlob(target.repository, digest, signal);
    this.#deps.proofs.remember(target, digest);
    return { sizeBytes, cached: false };
  }

  /** Describes a layer, also one that is named by its tar. Fetches at most the config of its image. */
  async describe(target: Target, named: Digest, signal: AbortSignal): Promise<LayerDescription> {
    const layer = await this.readableLayer(target, named, signal);
    const { digest } = layer;
    const known = this.#deps.knownLayers.get(target, digest);
    const state = await this.#deps.indexes.state(layer);
    const policy = this.#deps.policies.of(target);
    if (state.kind === 'complete') {
      const { summary } = state;
      const costly = servesTars(policy) ? frameCost(summary, this.#deps.maxSkippedBytes) : undefined;
      return describeSummary(summary, costly ?? summary.reason, known);
    }
    const skipped = known && skip(known.descriptor, policy);
    const size = known?.descriptor.size ?? (await this.statBlob(target, digest, signal)).sizeBytes;
    return {
      digest,
      mediaType: known?.descriptor.mediaType ?? null,
      size,
      diffId:
        (known &&
          (await this.#deps.configs.readForDisplay(target, known.config, signal)).diffIds?.[
            known.position
          ]) ??
        null,
      state: state.kind,
      ...(state.kind === 'failed' ? { reason: state.code, message: state.message } : {}),
      ...(skipped === undefined ? {} : { skipped }),
      ...(skipped === 'too_small' ? { minLayerBytes: policy.minLayerBytes } : {}),
    };
  }

  /**
   * As {@link describe}, for a layer that a manifest lists; a layer that cannot be read gets state and reason
   * too.
   */
  async describeListed(
    target: Target,
    listed: Descriptor | FaultyDescriptor,
    signal: AbortSignal,
  ): Promise<LayerDescription> {
    const { mediaType, digest } = listed;
    const failed = { digest, mediaType, size: null, diffId: null, state: 'failed' } as const;
    if (!isSound(listed)) return { ...failed, reason: listed.fault.code, message: listed.fault.message };
    try {
      return await this.describe(target, listed.digest, signal);
    } catch (error) {
      if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      const isForeign = listed.urls !== undefined && listed.urls.length > 0;
      return {
        ...failed,
        size: listed.size,
        reason: error.code,
        message: 'the registry does not have it',
        ...(isForeign ? { foreign: true } : {}),
      };
    }
  }
}

/** Why a layer has no place in the indexes of its repository. */
function skip(layer: Descriptor, policy: IndexPolicy): SkipReason | undefined {
  return (servesTars(policy) ? tarSkipReason : skipReason)(layer, policy.minLayerBytes);
}

function describeSummary(
  summary: LayerSummary,
  reason: NoZtocReason | undefined,
  known: KnownLayer | undefined,
): LayerDescription {
  const { ztoc } = summary;
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
