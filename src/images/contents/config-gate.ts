import { setTimeout as pause } from 'node:timers/promises';

import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { containerdStoreMs } from '../../core/client-quirks.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { waitFor } from '../../core/wait-for.ts';
import { SNAPSHOT_LABEL } from '../../soci/convert-image.ts';
import { parseSociIndex, type PushedLayer } from '../../soci/parse-soci-index.ts';
import {
  type ImageIndex,
  type ImageManifest,
  parseManifest,
  soundDescriptors,
} from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import { PULL_SLACK_MS, type SharedPulls } from './shared-pulls.ts';

/** What a node must have before it gets the config of an image. */
export interface GatedImage {
  readonly sociIndex: Digest;
  readonly ztocs: readonly Digest[];
  /** How long the client takes to store the zTOCs after they were sent. */
  readonly settleMs: number;
}

/** Blobs that one client has recently requested and received. */
class ClientProgress {
  readonly #requested = new BoundedMap<Noted>({ maxEntries: MAX_REMEMBERED_BLOBS });
  readonly #received = new BoundedMap<Noted>({ maxEntries: MAX_REMEMBERED_BLOBS });
  #changed = Promise.withResolvers<void>();

  /** @param atMs as `performance.now()` */
  note(digest: Digest, what: 'requested' | 'received', atMs = performance.now()): void {
    this.#notes(what).set(digest, { atMs });
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** @param beforeMs as `performance.now()`; later notes stay */
  forget(digests: readonly Digest[], beforeMs = Infinity): void {
    for (const notes of [this.#requested, this.#received])
      for (const digest of digests)
        if ((notes.get(digest)?.atMs ?? Infinity) < beforeMs) notes.delete(digest);
  }

  /** Resolves with the next note. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  has(digest: Digest, what: 'requested' | 'received'): boolean {
    return this.#notes(what).get(digest) !== undefined;
  }

  #notes(what: 'requested' | 'received'): BoundedMap<Noted> {
    return what === 'requested' ? this.#requested : this.#received;
  }

  /** Those that it has not received. */
  missing({ ztocs }: GatedImage): Digest[] {
    return ztocs.filter((ztoc) => !this.has(ztoc, 'received'));
  }

  /** When it had received all zTOCs; `undefined` if it has not. */
  completeAt({ ztocs }: GatedImage): number | undefined {
    const times = ztocs.map((ztoc) => this.#received.get(ztoc)?.atMs);
    const known = times.filter((time) => time !== undefined);
    return known.length < times.length ? undefined : Math.max(0, ...known);
  }

  hasRequestedAny({ sociIndex, ztocs }: GatedImage): boolean {
    return [sociIndex, ...ztocs].some((digest) => this.has(digest, 'requested'));
  }
}

interface Noted {
  readonly atMs: number;
}

const MAX_IMAGES = 10_000;
const MAX_CLIENTS = 10_000;
const MAX_REMEMBERED_BLOBS = 1000;
/** A client that has not requested a zTOC by then does not want them, or has them from an earlier pull. */
const GRACE_MS = 1_000;
/** Bounds the wait for a client that requests blobs without reading them. */
const MAX_HOLD_MS = 15_000;
/** How often other replicas are asked what the node has got from them. */
const LOOK_MS = 100;

/**
 * Holds back the config of an image in the `mirror` form until the node has the zTOCs. containerd starts to
 * unpack when it has the config. The snapshotter must find the zTOCs in containerd's content store by then;
 * otherwise it looks for them at the upstream.
 */
export class ConfigGate {
  readonly #store: ManifestStore;
  readonly #images = new BoundedMap<GatedImage>({ maxEntries: MAX_IMAGES });
  readonly #clients = new BoundedMap<ClientProgress>({ maxEntries: MAX_CLIENTS });

  readonly #pulls: SharedPulls;

  /** @param pulls what other replicas have sent */
  constructor(store: ManifestStore, pulls: SharedPulls) {
    this.#store = store;
    this.#pulls = pulls;
  }

  /** Call before a manifest or index is sent to a client. Only those in the `mirror` form matter. */
  async learn(client: string, manifest: ManifestDocument): Promise<void> {
    try {
      const parsed = parseManifest(manifest);
      if (parsed.kind === 'image') await this.#learnImage(client, manifest.digest, parsed);
      else await this.#beginPull(client, parsed);
    } catch (error) {
      // Not an image, or a SOCI index that the proxy did not make.
      if (!isSpandrelError(error, 'IMAGE_UNSUPPORTED', 'INDEX_MALFORMED')) throw error;
    }
  }

  async #learnImage(client: string, digest: Digest, { config, layers }: ImageManifest): Promise<void> {
    const [first] = soundDescriptors(layers);
    const sociIndex = first?.annotations?.[SNAPSHOT_LABEL];
    if (config === undefined || sociIndex === undefined || !isDigest(sociIndex)) return;
    const layersOfIndex = await this.#readIndex(sociIndex, digest);
    if (layersOfIndex === undefined) return;
    const bytes = layersOfIndex.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const image = {
      sociIndex,
      ztocs: layersOfIndex.map(({ ztoc }) => ztoc),
      settleMs: containerdStoreMs(bytes),
    };
    this.#images.set(imageKey(client, config.digest), image);
    this.#pulls.noteImage(client, config.digest, image);
  }

  /**
   * Forgets what this address received before: it may have been another node, or the node may have deleted
   * it.
   */
  async #beginPull(client: string, { manifests }: ImageIndex): Promise<void> {
    for (const { digest, artifactType } of soundDescriptors(manifests)) {
      if (artifactType !== MEDIA_TYPES.sociIndexV2) continue;
      const layers = (await this.#readIndex(digest, digest)) ?? [];
      const blobs = [digest, ...layers.map(({ ztoc }) => ztoc)];
      this.#progress(client).forget(blobs);
      this.#pulls.noteBegin(client, digest);
    }
  }

  /** The zTOCs of a SOCI index that the proxy made. */
  async #readIndex(sociIndex: Digest, subject: Digest): Promise<readonly PushedLayer[] | undefined> {
    const index = await this.#store.get(sociIndex);
    return index && parseSociIndex(index.bytes, subject).layers;
  }

  /**
   * Call when a client, known by its address, has requested a manifest or blob that is no layer, or has
   * received all of it.
   */
  note(client: string, digest: Digest, what: 'requested' | 'received'): void {
    this.#progress(client).note(digest, what);
    this.#pulls.note(client, digest, what);
  }

  /**
   * Resolves when the client may have the blob: at once unless it is the config of a gated image.
   * @throws the reason of `signal`
   */
  async pass(client: string, config: Digest, signal: AbortSignal): Promise<void> {
    const known = this.#images.get(imageKey(client, config));
    const image = known ?? (await this.#pulls.image(client, config));
    if (image === undefined) return;
    const progress = this.#progress(client);
    using grace = new TimeLimit(GRACE_MS);
    using limit = new TimeLimit(MAX_HOLD_MS);
    await this.#beginAgain(client, progress, image);
    while (progress.completeAt(image) === undefined) {
      const patience = progress.hasRequestedAny(image) ? limit : grace;
      if (patience.isOver) return;
      const { changed } = progress;
      await this.#look(client, progress, image);
      using next = new TimeLimit(this.#pulls.isShared ? LOOK_MS : MAX_HOLD_MS);
      try {
        await waitFor(changed, next.with(patience.with(signal)));
      } catch {
        // The grace is over, or it is time to look again, unless the caller's signal is aborted too.
        signal.throwIfAborted();
      }
    }
    const settledAt = (progress.completeAt(image) ?? 0) + image.settleMs;
    if (settledAt > performance.now()) await pause(settledAt - performance.now(), undefined, { signal });
  }

  /** Forgets what the client had before it began this pull, at another replica. */
  async #beginAgain(client: string, progress: ClientProgress, image: GatedImage): Promise<void> {
    const begunMs = await this.#pulls.begunMs(client, image.sociIndex);
    if (begunMs !== undefined)
      progress.forget([image.sociIndex, ...image.ztocs], performance.now() - begunMs - PULL_SLACK_MS);
  }

  /** Takes over what the client has got from other replicas. */
  async #look(client: string, progress: ClientProgress, image: GatedImage): Promise<void> {
    const begunMs = await this.#pulls.begunMs(client, image.sociIndex);
    const steps = await this.#pulls.steps(client, [image.sociIndex, ...progress.missing(image)], begunMs);
    for (const [digest, { what, ageMs }] of steps)
      for (const step of ['requested', what] as const)
        if (!progress.has(digest, step)) progress.note(digest, step, performance.now() - ageMs);
  }

  #progress(client: string): ClientProgress {
    const known = this.#clients.get(client);
    if (known !== undefined) return known;
    const progress = new ClientProgress();
    this.#clients.set(client, progress);
    return progress;
  }
}

/** Images with different indexes may share a config. A client waits for the image that it was given. */
function imageKey(client: string, config: Digest): string {
  return `${client} ${config}`;
}
