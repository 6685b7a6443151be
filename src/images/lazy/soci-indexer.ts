import { BoundedMap } from '../../cache/bounded-map.ts';
import { PassingFaults, type RetryPauses } from '../../cache/passing-faults.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, isSpandrelError, type SpandrelError } from '../../core/errors.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import { manifestTypeOf } from '../../core/media-types.ts';
import { encodeSociIndex, type PrefetchArtifact } from '../../soci/soci-index.ts';
import type { NoZtocReason } from '../../index/layer-summary.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import { COSTLY_FAULTS, type LayerIndexes } from '../../layers/layer-indexes.ts';
import type { SkipReason } from '../../soci/skip-reason.ts';
import { isLayerFault } from '../../layers/proven-fault.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { IndexedLayer, LayerKind, PlacedLayer, Prefetches } from './layer-kind.ts';
import type { Layers } from './layers.ts';
import { type FaultyDescriptor, isSound, parseManifest } from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { Origins } from '../proofs/origins.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface SociIndexerDeps {
  readonly kind: LayerKind;
  readonly proofs: BlobProofs;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly store: ManifestStore;
  readonly origins: Origins;
  readonly prefetches: Prefetches;
  readonly policies: IndexPolicies;
  /** Pauses before layers that the upstream lacks or refuses are requested again. */
  readonly pauses: RetryPauses;
  readonly events: Events;
  readonly logger: Logger;
}

export type SociVersion = 'v1' | 'v2';

/** A SOCI index, and the layers that it lists. */
export interface SociIndexOfImage {
  readonly index: Descriptor;
  readonly layers: readonly IndexedLayer[];
}

/** The layers of an image that have zTOCs, and the SOCI indexes made from them. */
interface IndexedLayers {
  readonly layers: readonly IndexedLayer[];
  /** By {@link madeKey}. */
  readonly made: Map<string, Descriptor>;
}

/** What decides on the bytes of a SOCI index, besides its layers. */
interface IndexForm {
  readonly version: SociVersion;
  readonly prefetch: readonly PrefetchArtifact[];
}

const NO_LAYERS: IndexedLayers = { layers: [], made: new Map() };
const ABSENT: NoZtocReason = { code: 'BLOB_UNKNOWN', message: 'the registry does not have it' };
const MAX_REMEMBERED = 10_000;
/** Layers of one image that are fetched and indexed at the same time. */
const MAX_RUNNING = 32;
/** Refusals of a layer: no index is made without it, since the registry may deliver it later. */
const REFUSALS: readonly ErrorCode[] = [
  'NAME_UNKNOWN',
  'UNAUTHORIZED',
  'DENIED',
  'UPSTREAM_CREDENTIALS_REFUSED',
];

/** Makes the SOCI index of an image from the zTOCs of its layers, and builds missing zTOCs. */
export class SociIndexer {
  readonly #deps: SociIndexerDeps;
  readonly #flights: SingleFlight<IndexedLayers>;
  /** Results that the bytes of the layers prove. */
  readonly #remembered = new BoundedMap<IndexedLayers>({ maxEntries: MAX_REMEMBERED });
  /** Results without layers that the registry lacks, and may get. */
  readonly #lacking: PassingFaults<IndexedLayers>;
  readonly #failed: PassingFaults<SpandrelError>;

  constructor(deps: SociIndexerDeps) {
    this.#deps = deps;
    this.#lacking = new PassingFaults(deps.pauses);
    this.#failed = new PassingFaults(deps.pauses);
    this.#flights = new SingleFlight('index', deps.events);
  }

  /**
   * The descriptor of an image's SOCI index, which is stored so that it can be fetched by digest; `undefined`
   * if the manifest is not an image or none of its layers can be indexed. `signal` ends the wait, not the
   * work.
   * @throws SpandrelError of a fill that failed for now; a faulty or missing layer is left out instead
   */
  async sociIndex(
    target: Target,
    manifest: ManifestDocument,
    version: SociVersion,
    signal?: AbortSignal,
  ): Promise<Descriptor | undefined> {
    const found = await this.#find(target, manifest);
    const key = this.#key(target, manifest);
    const failure = this.#failed.current(key);
    if (found === undefined && failure !== undefined) throw failure;
    const make = (): Promise<IndexedLayers> => this.#build(target, manifest);
    const indexed = found ?? (await this.#flights.run(key, make, signal));
    return this.#store(target, manifest, indexed, version);
  }

  /** The index if it exists; builds nothing. */
  async existing(
    target: Target,
    manifest: ManifestDocument,
    version: SociVersion,
  ): Promise<Descriptor | undefined> {
    const found = await this.#findLast(target, manifest);
    return found === undefined ? undefined : this.#store(target, manifest, found, version);
  }

  /** As {@link existing}, for a v2 index, with its layers. */
  async existingV2(target: Target, manifest: ManifestDocument): Promise<SociIndexOfImage | undefined> {
    const found = await this.#findLast(target, manifest);
    const index = found && (await this.#store(target, manifest, found, 'v2'));
    return index && { index, layers: found.layers };
  }

  /**
   * Ensures that the indexes of an image and their zTOCs exist; retries recent failures.
   * @throws SpandrelError as {@link sociIndex}
   */
  async restore(target: Target, manifest: ManifestDocument): Promise<void> {
    const indexed = await this.#flights.run(this.#key(target, manifest), () => this.#build(target, manifest));
    for (const version of ['v1', 'v2'] as const) {
      await this.#store(target, manifest, indexed, version);
      // An index that was named before `index.prefetch` was turned on.
      await this.#storeForm(target, manifest, indexed, { version, prefetch: [] });
    }
  }

  /** As {@link isSettled}, and it is too early to look again for missing layers. */
  async isCurrent(target: Target, manifest: ManifestDocument): Promise<boolean> {
    return (await this.#find(target, manifest)) !== undefined;
  }

  /** True if everything possible has been done for an image. */
  async isSettled(target: Target, manifest: ManifestDocument): Promise<boolean> {
    return (await this.#findLast(target, manifest)) !== undefined;
  }

  /** Layers that belong in an index of the image. */
  eligibleLayers(target: Target, manifest: ManifestDocument): Descriptor[] {
    return this.#eligible(target, parseManifest(manifest)).map(({ layer }) => layer);
  }

  #eligible(target: Target, parsed: ReturnType<typeof parseManifest>): PlacedLayer[] {
    if (parsed.kind !== 'image') return [];
    const { minLayerBytes } = this.#deps.policies.of(target);
    const placed = parsed.layers.flatMap((layer, place) => (isSound(layer) ? [{ layer, place }] : []));
    return placed.filter(({ layer }) => this.#deps.kind.skip(layer, minLayerBytes) === undefined);
  }

  /** Layers that are left out by size or format, with the reason. */
  skippedLayers(
    target: Target,
    manifest: ManifestDocument,
  ): { readonly layer: Descriptor; readonly skipped: SkipReason }[] {
    const parsed = parseManifest(manifest);
    if (parsed.kind !== 'image') return [];
    const { minLayerBytes } = this.#deps.policies.of(target);
    return parsed.layers.filter(isSound).flatMap((layer) => {
      const skipped = this.#deps.kind.skip(layer, minLayerBytes);
      return skipped === undefined ? [] : [{ layer, skipped }];
    });
  }

  #key(target: Target, manifest: ManifestDocument): string {
    return `${targetKey(target)} ${manifest.digest} ${this.#deps.policies.of(target).minLayerBytes}`;
  }

  async #build(target: Target, manifest: ManifestDocument): Promise<IndexedLayers> {
    const key = this.#key(target, manifest);
    try {
      return await this.#buildAll(target, manifest);
    } catch (error) {
      if (isSpandrelError(error, ...REFUSALS, ...COSTLY_FAULTS)) this.#failed.note(key, error);
      throw error;
    }
  }

  async #buildAll(target: Target, manifest: ManifestDocument): Promise<IndexedLayers> {
    const image = parseManifest(manifest);
    if (image.kind !== 'image') return NO_LAYERS;
    const { layers, kind } = this.#deps;
    const absent = new Set<Digest>();
    const build = async ([digest, places]: [Digest, readonly PlacedLayer[]]): Promise<void> => {
      try {
        await layers.index(target, digest);
        for (const placed of places) await kind.build({ target, image }, placed);
      } catch (error) {
        // A faulty layer is left out below. Any other failure may pass, and ends this attempt.
        if (isSpandrelError(error, 'BLOB_UNKNOWN')) absent.add(digest);
        else if (!isSpandrelError(error) || !isLayerFault(error.code)) throw error;
      }
    };
    const eligible = this.#eligible(target, image);
    const distinct = Map.groupBy(eligible, ({ layer }) => layer.digest);
    await mapBounded([...distinct], build, { maxRunning: MAX_RUNNING });
    // An index evicted meanwhile is rebuilt the next time.
    return (await this.#gather(target, manifest, absent)) ?? NO_LAYERS;
  }

  /** The indexed layers, if nothing is left to build. */
  async #find(target: Target, manifest: ManifestDocument): Promise<IndexedLayers | undefined> {
    const key = this.#key(target, manifest);
    const known = this.#remembered.get(key) ?? this.#lacking.current(key);
    return known ?? this.#gather(target, manifest, new Set());
  }

  /** As {@link #find}, or else the last result, though missing layers may have appeared since. */
  async #findLast(target: Target, manifest: ManifestDocument): Promise<IndexedLayers | undefined> {
    return (await this.#find(target, manifest)) ?? this.#lacking.last(this.#key(target, manifest));
  }

  /**
   * The indexed layers that the repository has, once all except absent ones have been built or have failed
   * for good.
   */
  async #gather(
    target: Target,
    manifest: ManifestDocument,
    absent: ReadonlySet<Digest>,
  ): Promise<IndexedLayers | undefined> {
    const key = this.#key(target, manifest);
    const before = this.#remembered.get(key);
    const { layers: known, indexes } = this.#deps;
    const parsed = parseManifest(manifest);
    const eligible = this.#eligible(target, parsed);
    const isBuilt = eligible.map(
      async ({ layer: { digest } }) => absent.has(digest) || (await indexes.has(digest)),
    );
    if ((await Promise.all(isBuilt)).includes(false)) return undefined;
    const present = eligible.flatMap(({ layer: { digest } }) => (absent.has(digest) ? [] : [digest]));
    // A manifest may list layers that the repository does not have.
    const authorized = await known.authorizedLayers(target, present);
    const described = await Promise.all(
      eligible.map(async (placed) => {
        const layer = authorized.get(placed.layer.digest);
        return layer === undefined ? ABSENT : this.#describe(target, parsed, placed, layer);
      }),
    );
    // A concurrent call may have finished first.
    const faster = this.#remembered.get(key);
    if (faster !== undefined && faster !== before) return faster;
    const layers: IndexedLayer[] = [];
    const leftOut: [string, string][] = [];
    for (const [place, { layer }] of eligible.entries()) {
      const found = described[place];
      if (found === undefined) return undefined;
      if ('code' in found) leftOut.push([layer.digest, found.code]);
      else layers.push(found);
    }
    this.#noteLeftOut(target, manifest, leftOut);
    const found = { layers, made: new Map() };
    if (described.includes(ABSENT)) this.#lacking.note(key, found);
    else {
      this.#remembered.set(key, found);
      this.#lacking.clear(key);
    }
    return found;
  }

  /** A layer of an image, or why it is left out; `undefined` if something of it must be built first. */
  async #describe(
    target: Target,
    image: ReturnType<typeof parseManifest>,
    placed: PlacedLayer,
    authorized: AuthorizedLayer,
  ): Promise<IndexedLayer | NoZtocReason | undefined> {
    const state = await this.#deps.indexes.state(authorized);
    if (state.kind === 'failed') return isLayerFault(state.code) ? state : undefined;
    if (state.kind !== 'complete' || image.kind !== 'image') return undefined;
    return this.#deps.kind.describe({ target, image }, { ...placed, authorized }, state.summary);
  }

  #noteLeftOut(target: Target, manifest: ManifestDocument, leftOut: readonly [string, string][]): void {
    const { events } = this.#deps;
    for (const [layer, reason] of leftOut) events.layerLeftOut(layer, reason, 'warn');
    for (const { digest, fault } of faultyLayers(manifest)) events.layerLeftOut(digest, fault.code, 'warn');
    // Most images have small layers. An image of which all layers are left out must leave a trace.
    const level = this.#eligible(target, parseManifest(manifest)).length === 0 ? 'info' : 'debug';
    for (const { layer, skipped } of this.skippedLayers(target, manifest))
      events.layerLeftOut(layer.digest, skipped, level);
  }

  async #store(
    target: Target,
    manifest: ManifestDocument,
    indexed: IndexedLayers,
    version: SociVersion,
  ): Promise<Descriptor | undefined> {
    const { layers } = indexed;
    if (layers.length === 0) return undefined;
    const { prefetches, kind } = this.#deps;
    const image = { image: manifest.digest, kind: kind.name };
    const prefetch = await prefetches.of(target, image, layers);
    return this.#storeForm(target, manifest, indexed, { version, prefetch });
  }

  async #storeForm(
    target: Target,
    manifest: ManifestDocument,
    { layers, made }: IndexedLayers,
    form: IndexForm,
  ): Promise<Descriptor | undefined> {
    if (layers.length === 0) return undefined;
    const key = madeKey(form);
    const known = made.get(key);
    const isStored = known !== undefined && (await this.#deps.store.has(known.digest));
    const descriptor = isStored ? known : await this.#encode(manifest, layers, form);
    made.set(key, descriptor);
    for (const layer of layers) await this.#deps.kind.publish(target, layer);
    await this.#publishOrigins(manifest, layers, form, descriptor);
    // A client that gets the index may fetch the zTOCs that it lists.
    this.#deps.proofs.rememberDerived(target, descriptor.digest, derivationOf(manifest, layers));
    for (const { original, soci } of layers)
      this.#deps.proofs.rememberDerived(target, soci.ztoc.digest, {
        image: manifest.digest,
        manifests: [],
        layers: [original],
      });
    return descriptor;
  }

  /** Publishes the origins before any client learns the digests, so that other replicas can serve them. */
  async #publishOrigins(
    manifest: ManifestDocument,
    layers: readonly IndexedLayer[],
    form: IndexForm,
    { digest, mediaType }: Descriptor,
  ): Promise<void> {
    const { origins } = this.#deps;
    await Promise.all([
      origins.publish(digest, () => {
        const { bytes } = encodeIndex(manifest, layers, form);
        const derivation = derivationOf(manifest, layers);
        const document = { digest, mediaType: manifestTypeOf(mediaType), bytes };
        return { kind: 'image', derivation, document };
      }),
      ...layers.map(({ soci, origin }) => origins.publish(soci.ztoc.digest, () => origin)),
    ]);
  }

  async #encode(
    manifest: ManifestDocument,
    layers: readonly IndexedLayer[],
    form: IndexForm,
  ): Promise<Descriptor> {
    const { descriptor, bytes } = encodeIndex(manifest, layers, form);
    if (!(await this.#deps.store.has(descriptor.digest)))
      await this.#deps.store.put({
        digest: descriptor.digest,
        mediaType: manifestTypeOf(descriptor.mediaType),
        bytes,
      });
    return descriptor;
  }
}

function encodeIndex(
  manifest: ManifestDocument,
  indexed: readonly IndexedLayer[],
  { version, prefetch }: IndexForm,
): ReturnType<typeof encodeSociIndex> {
  const layers = indexed.map(({ soci }) => soci);
  const { mediaType, digest } = manifest;
  const subject = { mediaType, digest, size: manifest.bytes.byteLength };
  return encodeSociIndex({ layers, prefetch, ...(version === 'v1' ? { subject } : {}) });
}

function madeKey({ version, prefetch }: IndexForm): string {
  return [version, ...prefetch.map(({ digest }) => digest)].join(' ');
}

function faultyLayers(manifest: ManifestDocument): FaultyDescriptor[] {
  const parsed = parseManifest(manifest);
  return parsed.kind === 'image' ? parsed.layers.flatMap((layer) => (isSound(layer) ? [] : [layer])) : [];
}

function derivationOf({ digest }: ManifestDocument, layers: readonly IndexedLayer[]): Derivation {
  return { image: digest, manifests: [digest], layers: layers.map(({ original }) => original) };
}
