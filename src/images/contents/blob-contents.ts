import type { StartWatch } from '../../boot/starts/start-watch.ts';
import type { LayerRequest } from '../../core/client-quirks.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { Target } from '../../upstream/target.ts';
import type { ConfigGate } from './config-gate.ts';
import type { DerivedBlob, DerivedBlobs } from '../lazy/derived-blobs.ts';
import type { Layers } from '../lazy/layers.ts';
import type { PullLog } from '../operations/pull-log.ts';
import type { TarCoding } from '../proofs/tar-records.ts';
import type { BlobRedirects } from './blob-redirects.ts';
import { type ByteStream, type Content, type ContentReader, noBytes } from './content.ts';
import type { BootContents } from './boot-contents.ts';
import type { TarContents } from './tar-contents.ts';

export interface BlobContentsDeps {
  readonly layers: Layers;
  readonly derivedBlobs: DerivedBlobs;
  readonly tarContents: TarContents;
  readonly bootContents: BootContents;
  readonly configGate: ConfigGate;
  readonly redirects: BlobRedirects;
  readonly pullLog: PullLog;
  readonly startWatch: StartWatch;
  /** Whether other replicas may have the blob from this one. */
  readonly servesReplicas: (target: Target, digest: Digest) => Promise<boolean>;
  /** Called for each piece of a blob that another replica gets. */
  readonly onSentToReplica: () => void;
}

/** The parts of a request for a blob that decide what it gets, and what it shows of the client. */
export interface BlobRequest extends ContentReader, LayerRequest {
  /** Another replica asks, for its fill: it gets only what this one has, or fetches for all. */
  readonly isFromReplica: boolean;
  /** Number of the client's connection. */
  readonly connection: number;
  /** The client wants the size alone: no fill starts. */
  readonly isSizeOnly: boolean;
  /** The client can decode gzip, and wants no range: the encoded form has other positions. */
  readonly acceptsGzip: boolean;
  /** The client wants all of the blob, and prefers it with this content coding. */
  readonly acceptsCoding: (coding: TarCoding) => boolean;
  /** The proxy is a mirror to the client (`?ns=`). */
  readonly isMirrored: boolean;
}

/** A read may skip this much between two ranges: it arrives as soon as the response to a further request. */
const UPSTREAM_GAP_BYTES = 1024 * 1024;

/**
 * What a request for a blob gets: the tar of a layer or another blob that the proxy makes, else the
 * upstream's, from the store if it is there.
 */
export class BlobContents {
  readonly #deps: BlobContentsDeps;

  constructor(deps: BlobContentsDeps) {
    this.#deps = deps;
  }

  /**
   * @returns a URL if the client should read the blob from there
   * @throws SpandrelError BLOB_UNKNOWN; errors of authorization, fills and builds
   */
  async open(target: Target, digest: Digest, request: BlobRequest): Promise<Content | URL> {
    const { derivedBlobs, configGate, layers } = this.#deps;
    const { client, signal, acceptsGzip } = request;
    if (request.isFromReplica) {
      // It would wait for a fill that another replica runs, perhaps the one that asks.
      if (!(await this.#deps.servesReplicas(target, digest)))
        throw new SpandrelError('BLOB_UNKNOWN', 'this replica does not have the blob');
      const content = await this.#storedContent(target, digest, request).catch(denyReplica);
      if (content instanceof URL) return content;
      const { onSentToReplica } = this.#deps;
      return { ...content, read: (range) => noteEach(content.read(range), onSentToReplica) };
    }
    if (request.isMirrored && !layers.belongsInIndex(target, digest)) {
      configGate.note(client, digest, 'requested');
      if (!request.isSizeOnly) await configGate.pass(client, digest, signal);
    }
    const tar = await this.#deps.tarContents.openKnown(target, digest, request);
    const made = tar ?? (await this.#deps.bootContents.openKnown(target, digest, request));
    if (made !== undefined) return made;
    const derivedRequest = { acceptsGzip, fairnessKey: client, signal };
    const derived = await derivedBlobs.get(target, digest, derivedRequest);
    if (derived !== undefined) return this.#derivedContent(digest, derived, request);
    try {
      return await this.#storedContent(target, digest, request);
    } catch (error) {
      if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      // Another replica may have named it.
      const boot = await this.#deps.bootContents.openFound(target, digest, request);
      const found = boot ?? (await this.#deps.tarContents.openFound(target, digest, request));
      if (found !== undefined) return found;
      const remade = await derivedBlobs.make(target, digest, derivedRequest);
      if (remade === undefined) throw error;
      return this.#derivedContent(digest, remade, request);
    }
  }

  #derivedContent(
    digest: Digest,
    { bytes, encoding, release }: DerivedBlob,
    { client, isMirrored }: BlobRequest,
  ): Content {
    const { configGate } = this.#deps;
    return {
      sizeBytes: bytes.byteLength,
      mediaType: MEDIA_TYPES.octetStream,
      etag: encoding === undefined ? digest : `${digest}+${encoding}`,
      digest,
      encoding: encoding ?? 'identity',
      isImmutable: true,
      source: 'disk',
      async *read({ start, end }) {
        yield bytes.subarray(start, end);
        if (isMirrored) configGate.note(client, digest, 'received');
      },
      dispose: async () => release(),
    };
  }

  async #storedContent(target: Target, digest: Digest, request: BlobRequest): Promise<Content | URL> {
    const { layers, pullLog, redirects, startWatch } = this.#deps;
    const { signal } = request;
    const shared = { mediaType: MEDIA_TYPES.octetStream, etag: digest, digest, isImmutable: true };
    if (request.isSizeOnly) {
      const { sizeBytes, cached } = await layers.statBlob(target, digest, signal);
      return { ...shared, sizeBytes, source: cached ? 'disk' : 'upstream', read: noBytes };
    }
    // What other replicas read is no pull, and no start.
    const isLayer = !request.isFromReplica && layers.belongsInIndex(target, digest);
    const address = request.forwardedClient ?? request.client;
    if (isLayer) pullLog.note(target, digest, address, request);
    const elsewhere = request.isFromReplica ? undefined : await redirects.find(target, digest, request);
    if (elsewhere !== undefined) return elsewhere;
    const blob = await layers.readBlob(target, digest, request);
    if (isLayer)
      startWatch.note({
        target,
        digest,
        layer: digest,
        address,
        origin: { source: blob.source },
        ...request,
      });
    return {
      ...shared,
      sizeBytes: blob.sizeBytes,
      source: blob.source,
      maxGapBytes: blob.source === 'disk' ? undefined : UPSTREAM_GAP_BYTES,
      read: (range) => blob.readShared(range, signal),
      dispose: async () => blob[Symbol.asyncDispose](),
    };
  }
}

/** Tells the other replica that this one has the blob, but not for this repository. */
function denyReplica(error: unknown): never {
  if (!isSpandrelError(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN')) throw error;
  throw new SpandrelError('DENIED', 'the repository does not have the blob', { cause: error });
}

async function* noteEach(stream: ByteStream, note: () => void): ByteStream {
  for await (const bytes of stream) {
    note();
    yield bytes;
  }
}
