import { setTimeout as pause } from 'node:timers/promises';

import { BoundedMap } from '../../cache/bounded-map.ts';
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
  type StoredManifest,
} from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';

/** What a node must have before it gets the config of an image. */
interface GatedImage {
  readonly sociIndex: Digest;
  readonly ztocs: readonly Digest[];
  /** From the time when a client has been sent all of them to the time when it has stored them. */
  readonly settleMs: number;
}

/** What one client has asked for and got lately. */
class ClientProgress {
  readonly #asked = new BoundedMap<Noted>({ maxEntries: MAX_REMEMBERED_BLOBS });
  readonly #got = new BoundedMap<Noted>({ maxEntries: MAX_REMEMBERED_BLOBS });
  #changed = Promise.withResolvers<void>();

  note(digest: Digest, what: 'asked' | 'got'): void {
    (what === 'asked' ? this.#asked : this.#got).set(digest, { atMs: performance.now() });
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  forget(digests: readonly Digest[]): void {
    for (const digest of digests) {
      this.#asked.delete(digest);
      this.#got.delete(digest);
    }
  }

  /** Settles with the next note. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** When it had got all zTOCs; `undefined` if it has not yet. */
  completeAt({ ztocs }: GatedImage): number | undefined {
    const times = ztocs.map((ztoc) => this.#got.get(ztoc)?.atMs);
    const known = times.filter((time) => time !== undefined);
    return known.length < times.length ? undefined : Math.max(0, ...known);
  }

  hasAskedForAny({ sociIndex, ztocs }: GatedImage): boolean {
    return [sociIndex, ...ztocs].some((digest) => this.#asked.get(digest) !== undefined);
  }
}

interface Noted {
  readonly atMs: number;
}

const MAX_IMAGES = 10_000;
const MAX_CLIENTS = 10_000;
const MAX_REMEMBERED_BLOBS = 1000;
/** A client that has not asked for a zTOC by then does not want them, or has them from an earlier pull. */
const GRACE_MS = 1_000;
/** Against a client that asks and does not read. */
const MAX_HOLD_MS = 15_000;

/**
 * Holds back the config of an image in the `mirror` form until the node has the zTOCs. containerd starts to unpack when it has the
 * config, and the snapshotter must find the zTOCs in containerd's content store by then; it would look for them at the origin.
 */
export class ConfigGate {
  readonly #store: ManifestStore;
  readonly #images = new BoundedMap<GatedImage>({ maxEntries: MAX_IMAGES });
  readonly #clients = new BoundedMap<ClientProgress>({ maxEntries: MAX_CLIENTS });

  constructor(store: ManifestStore) {
    this.#store = store;
  }

  /** A manifest or index is about to be served to a client; only those in the `mirror` form matter. */
  async learn(client: string, manifest: StoredManifest): Promise<void> {
    try {
      const parsed = parseManifest(manifest);
      if (parsed.kind === 'image') await this.#learnImage(client, manifest.digest, parsed);
      else await this.#beginPull(client, parsed);
    } catch (error) {
      // An artifact that is no image, or somebody else's labels.
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
    this.#images.set(imageKey(client, config.digest), {
      sociIndex,
      ztocs: layersOfIndex.map(({ ztoc }) => ztoc),
      settleMs: containerdStoreMs(bytes),
    });
  }

  /** What this address got before may have been another node's, or has been thrown away. */
  async #beginPull(client: string, { manifests }: ImageIndex): Promise<void> {
    for (const { digest, artifactType } of soundDescriptors(manifests)) {
      if (artifactType !== MEDIA_TYPES.sociIndexV2) continue;
      const layers = (await this.#readIndex(digest, digest)) ?? [];
      this.#progress(client).forget([digest, ...layers.map(({ ztoc }) => ztoc)]);
    }
  }

  /** The zTOCs of a SOCI index that we have made. */
  async #readIndex(sociIndex: Digest, subject: Digest): Promise<readonly PushedLayer[] | undefined> {
    const index = await this.#store.get(sociIndex);
    return index && parseSociIndex(index.bytes, subject).layers;
  }

  /** A client, known by its address, has asked for a manifest or blob, or has got all of it. */
  note(client: string, digest: Digest, what: 'asked' | 'got'): void {
    this.#progress(client).note(digest, what);
  }

  /** Resolves when the client may have the blob: at once unless it is the config of a gated image. @throws the reason of `signal` */
  async pass(client: string, config: Digest, signal: AbortSignal): Promise<void> {
    const image = this.#images.get(imageKey(client, config));
    if (image === undefined) return;
    const progress = this.#progress(client);
    using grace = new TimeLimit(GRACE_MS);
    using limit = new TimeLimit(MAX_HOLD_MS);
    while (progress.completeAt(image) === undefined) {
      const patience = progress.hasAskedForAny(image) ? limit : grace;
      if (patience.isOver) return;
      try {
        await waitFor(progress.changed, patience.with(signal));
      } catch (error) {
        if (signal.aborted) throw error;
      }
    }
    const settledAt = (progress.completeAt(image) ?? 0) + image.settleMs;
    if (settledAt > performance.now()) await pause(settledAt - performance.now(), undefined, { signal });
  }

  #progress(client: string): ClientProgress {
    const known = this.#clients.get(client);
    if (known !== undefined) return known;
    const progress = new ClientProgress();
    this.#clients.set(client, progress);
    return progress;
  }
}

/** One config may stand in images with different indexes: a client waits for those of the image that it has been given. */
function imageKey(client: string, config: Digest): string {
  return `${client} ${config}`;
}
