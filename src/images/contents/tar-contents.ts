import { readBlobRange } from '../../blobs/reads/read-blob-range.ts';
import type { ReadOrigin } from '../../boot/starts/range-read.ts';
import type { StartWatch } from '../../boot/starts/start-watch.ts';
import { isSnapshotter } from '../../core/client-quirks.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { zstdWindowBytes } from '../../inflate/zstd-window-bytes.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import type { Target } from '../../upstream/target.ts';
import type { TarLayers } from '../lazy/tar-layers.ts';
import type { TarCoding, TarRecord } from '../proofs/tar-records.ts';
import type { Layers } from '../lazy/layers.ts';
import type { PullLog } from '../operations/pull-log.ts';
import type { BlobRequest } from './blob-contents.ts';
import { type ByteStream, type Content, noBytes } from './content.ts';

export interface TarContentsDeps {
  readonly tarLayers: TarLayers;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly reader: LayerReader;
  readonly pullLog: PullLog;
  readonly startWatch: StartWatch;
}

/** Largest window of the content coding `zstd` (RFC 9659). */
const MAX_ZSTD_WINDOW_BYTES = 8 * 2 ** 20;
const ZSTD_HEAD_BYTES = 1024;

/**
 * Blobs that are the tars of layers, by diffID. Who may read the layer may read its tar. A client that wants
 * all of it and can decode gets the layer as an encoding of the tar; all others get decompressed bytes.
 */
export class TarContents {
  readonly #deps: TarContentsDeps;

  constructor(deps: TarContentsDeps) {
    this.#deps = deps;
  }

  /**
   * The tar of a layer of the repository, as far as this replica knows.
   * @throws SpandrelError as `Layers.authorizedLayer`, except BLOB_UNKNOWN; errors of fills and builds
   */
  openKnown(target: Target, diffId: Digest, request: BlobRequest): Promise<Content | undefined> {
    return this.#openFirst(target, this.#deps.tarLayers.known(target, diffId), request);
  }

  /** As {@link openKnown}, for a digest that nobody else knows: looks through the repository's images. */
  async openFound(target: Target, diffId: Digest, request: BlobRequest): Promise<Content | undefined> {
    const found = await this.#deps.tarLayers.find(target, diffId, request.signal);
    return this.#openFirst(target, found, request);
  }

  /** The layer of a record may be gone; another layer may have the same tar. */
  async #openFirst(
    target: Target,
    records: readonly TarRecord[],
    request: BlobRequest,
  ): Promise<Content | undefined> {
    for (const record of records) {
      try {
        return await this.#open(target, record, request);
      } catch (error) {
        if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
        this.#deps.tarLayers.forget(target, record);
      }
    }
    return undefined;
  }

  async #open(target: Target, record: TarRecord, request: BlobRequest): Promise<Content> {
    const { layers, pullLog } = this.#deps;
    const { signal, isSizeOnly } = request;
    if (isSizeOnly) {
      await layers.authorizedLayer(target, record.layer, signal);
      return { ...identityOf(record), source: 'disk', read: noBytes };
    }
    pullLog.note(target, record.layer, request.forwardedClient ?? request.client, request);
    const coding = codingFor(record, request);
    const encoded = coding && (await this.#encoded(target, record, coding, signal));
    return encoded ?? this.#decompressed(target, record, request);
  }

  /** The layer as an encoding of its tar; `undefined` if clients need not be able to decode it. */
  async #encoded(
    target: Target,
    { diffId, layer }: TarRecord,
    coding: TarCoding,
    signal: AbortSignal,
  ): Promise<Content | undefined> {
    await using opened = new AsyncDisposableStack();
    const blob = opened.use(await this.#deps.layers.readBlob(target, layer, { signal }));
    const { sizeBytes, source } = blob;
    if (coding === 'zstd') {
      const head = { start: 0, end: Math.min(ZSTD_HEAD_BYTES, sizeBytes) };
      const windowBytes = zstdWindowBytes(await readBlobRange(blob, head, signal));
      if (windowBytes === undefined || windowBytes > MAX_ZSTD_WINDOW_BYTES) return undefined;
    }
    const owned = opened.move();
    return {
      sizeBytes,
      ...sharedBy(diffId),
      etag: `${diffId}+${coding}`,
      encoding: coding,
      reprDigest: layer,
      source,
      read: (range) => blob.readShared(range, signal),
      dispose: () => owned.disposeAsync(),
    };
  }

  async #decompressed(target: Target, record: TarRecord, request: BlobRequest): Promise<Content> {
    const { layers, indexes, reader, startWatch } = this.#deps;
    const { client, signal } = request;
    const layer = await layers.authorizedLayer(target, record.layer, signal);
    const index = await indexes.open(layer, signal);
    await assertTarOf(layer, index, record, signal);
    const reading = reader.beginRequest(client, signal);
    const origin: ReadOrigin = {};
    const onSource = (from: ByteSource): void => void (origin.source ??= from);
    const address = request.forwardedClient ?? client;
    startWatch.note({ target, digest: record.diffId, layer: layer.digest, address, origin, ...request });
    return {
      ...identityOf(record),
      source: () => origin.source,
      read: (range): ByteStream => reader.read(layer, index, { range, reading, onSource }),
    };
  }
}

/** While an index is being built, its bytes are trusted as those of the span API are. */
async function assertTarOf(
  { digest }: AuthorizedLayer,
  index: LayerIndexView,
  { diffId }: TarRecord,
  signal: AbortSignal,
): Promise<void> {
  if (index.unverifiedBuild !== undefined) return;
  const { summary } = await index.finished(signal);
  if (summary.diffId !== diffId)
    throw new SpandrelError('BLOB_UNKNOWN', `${digest} does not decompress to ${diffId}`);
}

/** The snapshotter reads the tar itself; Go's HTTP client adds `gzip` to its requests on its own. */
function codingFor({ coding }: TarRecord, { acceptsCoding, userAgent }: BlobRequest): TarCoding | undefined {
  return coding !== undefined && acceptsCoding(coding) && !isSnapshotter(userAgent) ? coding : undefined;
}

function sharedBy(digest: Digest): Pick<Content, 'mediaType' | 'digest' | 'isImmutable' | 'vary'> {
  return {
    mediaType: MEDIA_TYPES.octetStream,
    digest,
    isImmutable: true,
    vary: 'accept-encoding, user-agent',
  };
}

function identityOf({ diffId, tarBytes: sizeBytes }: TarRecord): Omit<Content, 'read' | 'source'> {
  return { ...sharedBy(diffId), sizeBytes, etag: diffId, encoding: 'identity', reprDigest: diffId };
}
