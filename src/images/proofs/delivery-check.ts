import { randomInt } from 'node:crypto';
import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';

import type { BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../blobs/blob-store.ts';
import { checkTotalBytes } from '../../blobs/fills/check-total-bytes.ts';
import { readBlobRange } from '../../blobs/reads/read-blob-range.ts';
import { type PositionedBytes, readWithin } from '../../blobs/reads/read-within.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import { type Digest, digestAlgorithm, digestOfLarge } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { BlobSource } from '../../core/sources/blob-source.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import type { Span } from '../../ztoc/span.ts';
import type { Deliveries } from './deliveries.ts';

export interface DeliveryCheckDeps {
  readonly deliveries: Deliveries;
  readonly blobs: BlobStore;
  readonly indexes: LayerIndexes;
}

const SAMPLES = 4;
const SAMPLE_BYTES = 64 * 1024;
/** Samples that compress to fewer bytes could be guessed. */
const MIN_UNGUESSABLE_BYTES = 4096;

const pack = promisify(deflateRaw);

/**
 * Makes an upstream prove that it has a blob that another one has sent, by sending random ranges of it or all
 * of it. A response to HEAD is not enough: any server can fake one.
 */
export class DeliveryCheck {
  readonly #deps: DeliveryCheckDeps;

  constructor(deps: DeliveryCheckDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves if the upstream of `source` has sent the blob, or sends it or parts of it now. If nothing is
   * stored to compare with, the whole blob is fetched if `isWanted`; otherwise there is nothing to prove, as
   * nothing can be served.
   * @throws SpandrelError BLOB_UNKNOWN; BLOB_CORRUPT if it sends other bytes; errors of fills
   */
  async confirm(
    source: BlobSource & { readonly upstream: string },
    digest: Digest,
    isWanted: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { deliveries, blobs, indexes } = this.#deps;
    if (await deliveries.has(source.upstream, digest)) return;
    const isStored = (await blobs.storedSize(digest)) !== undefined;
    const index = isStored ? undefined : await indexes.find(digest, signal);
    if (!isStored && index === undefined && !isWanted) return;
    if (index !== undefined && (await this.#sendsSpans(index, source, signal))) {
      deliveries.note(source.upstream, digest);
      return;
    }
    await using blob = await blobs.openBlob(digest, source, { complete: true, signal });
    if (blob.source !== 'disk') await blob.completed(signal);
    // A fill whose bytes all came from this upstream has noted it. It may have ended since the first look.
    if (await deliveries.has(source.upstream, digest)) return;
    await compareSamples(blob, source, signal);
    deliveries.note(source.upstream, digest);
  }

  /**
   * False if the spans are too predictable to prove anything.
   * @throws SpandrelError BLOB_CORRUPT
   */
  async #sendsSpans(index: LayerIndex, source: BlobSource, signal: AbortSignal): Promise<boolean> {
    const samples: Buffer[] = [];
    for (const { compressed, digest } of chooseSamples([...index.spans()])) {
      const bytes = await fetchSample(source, compressed, index.layerBytes, signal);
      if ((await digestOfLarge(Uint8Array.from(bytes), digestAlgorithm(digest))) !== digest)
        throw otherBytes(source, index.summary.layerDigest);
      samples.push(bytes.subarray(0, SAMPLE_BYTES));
    }
    return isUnguessable(samples);
  }
}

/** @throws SpandrelError BLOB_CORRUPT */
async function compareSamples(blob: BlobReader, source: BlobSource, signal: AbortSignal): Promise<void> {
  const { sizeBytes } = blob;
  if (sizeBytes > SAMPLES * SAMPLE_BYTES) {
    const samples: Buffer[] = [];
    for (let count = 0; count < SAMPLES; count++) {
      const start = randomInt(sizeBytes - SAMPLE_BYTES + 1);
      const range = { start, end: start + SAMPLE_BYTES };
      const sent = await fetchSample(source, range, sizeBytes, signal);
      if (!sent.equals(await readBlobRange(blob, range, signal))) throw otherBytes(source, blob.digest);
      samples.push(sent);
    }
    if (await isUnguessable(samples)) return;
  }
  for await (const { bytes, position } of fetchRange(source, undefined, sizeBytes, signal)) {
    const same = await readBlobRange(blob, { start: position, end: position + bytes.byteLength }, signal);
    if (!bytes.equals(same)) throw otherBytes(source, blob.digest);
  }
}

/** The bytes of a small range, fetched from the upstream. */
async function fetchSample(
  source: BlobSource,
  range: ByteRange,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let { start } = range; start < range.end;)
    for await (const { bytes, position } of fetchRange(
      source,
      { start, end: range.end },
      sizeBytes,
      signal,
    )) {
      parts.push(bytes);
      start = position + bytes.byteLength;
    }
  return Buffer.concat(parts);
}

/** One response for a range, or for the whole blob. It may end early; bytes outside the range are dropped. */
async function* fetchRange(
  source: BlobSource,
  range: ByteRange | undefined,
  sizeBytes: number,
  signal: AbortSignal,
): AsyncGenerator<PositionedBytes, void, undefined> {
  const leaving = new AbortController();
  try {
    const response = await source.fetch(range, AbortSignal.any([signal, leaving.signal]), sizeBytes);
    checkTotalBytes(response, sizeBytes);
    yield* readWithin(response, range ?? { start: 0, end: sizeBytes });
  } finally {
    leaving.abort();
  }
}

function chooseSamples(spans: readonly Span[]): readonly Span[] {
  if (spans.length <= SAMPLES) return spans;
  const places = new Set<number>();
  while (places.size < SAMPLES) places.add(randomInt(spans.length));
  return spans.filter((_, place) => places.has(place));
}

async function isUnguessable(samples: readonly Buffer[]): Promise<boolean> {
  const packed = await pack(Buffer.concat(samples), { level: 1 });
  return packed.byteLength >= MIN_UNGUESSABLE_BYTES;
}

function otherBytes({ upstream }: BlobSource, digest: Digest): SpandrelError {
  return new SpandrelError('BLOB_CORRUPT', `upstream ${upstream ?? ''} sends other bytes for ${digest}`);
}
