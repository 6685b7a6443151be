import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-name.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { ConfigGate } from '../../images/access/config-gate.ts';
import type { DerivedBlob, DerivedBlobs } from '../../images/lazy/derived-blobs.ts';
import type { Layers } from '../../images/lazy/layers.ts';
import type { LazyImages } from '../../images/lazy/lazy-images.ts';
import type { LostDocuments } from '../../images/lazy/lost-documents.ts';
import type { StoredManifest } from '../../images/documents/manifest.ts';
import type { FoundManifest } from '../../images/manifests/manifests.ts';
import type { PullLog } from '../../images/operations/pull-log.ts';
import type { Referrers } from '../../images/lazy/referrers.ts';
import type { ServedImages } from '../../images/manifests/served-images.ts';
import { type Answer, IMMUTABLE, jsonAnswer } from '../answers/answer.ts';
import { answerContent } from '../answers/content-answer.ts';
import type { Exchange } from '../requests/exchange.ts';
import { nextPage } from '../answers/next-page.ts';
import { parseCount } from '../requests/query.ts';

export interface DistributionDeps {
  readonly lostDocuments: LostDocuments;
  readonly layers: Layers;
  readonly derivedBlobs: DerivedBlobs;
  readonly lazyImages: LazyImages;
  readonly configGate: ConfigGate;
  readonly pullLog: PullLog;
  readonly servedImages: ServedImages;
  readonly referrers: Referrers;
}

/** As ECR and the distribution project: a larger `n` is cut. */
const MAX_TAGS = 1000;
const MAX_REFERRERS_PAGE = 1000;
/** Comes from an upstream as soon as the answer to a further request does. */
const UPSTREAM_GAP_BYTES = 1024 * 1024;

/** Clients that cannot use an index, or would not, get the image as it is. */
const TAG_VARIES_BY = 'accept, user-agent';

/** OCI distribution spec, "Pulling manifests". */
export async function handleManifest(
  deps: DistributionDeps,
  exchange: Exchange,
  reference: Reference,
): Promise<Answer> {
  const found = await deps.lostDocuments.get(exchange.target, reference, exchange.signal);
  const { source, rateLimit, stale } = found;
  let { manifest } = found;
  // A digest always answers its own bytes; what a tag stands for may have been indexed.
  if ('tag' in reference) manifest = await lazyAnswer(deps, exchange, reference.tag, found);
  else await noteManifest(deps, exchange, manifest);
  return answerContent(
    {
      sizeBytes: manifest.bytes.byteLength,
      contentType: manifest.mediaType,
      etag: manifest.digest,
      headers: {
        'docker-content-digest': manifest.digest,
        ...('tag' in reference ? { vary: TAG_VARIES_BY } : IMMUTABLE),
        ...rateLimit,
        ...(stale === undefined ? {} : staleness(stale)),
      },
      source,
      async *read(range) {
        yield manifest.bytes.subarray(range.start, range.end);
      },
    },
    exchange,
  );
}

/** Says that a tag may have moved: RFC 9111, section 5.1; distribution spec, "Warnings". */
function staleness({ ageMs }: NonNullable<FoundManifest['stale']>): Record<string, string> {
  const warning = '299 - "the upstream does not answer: the tag is as last seen"';
  return { warning, ...(ageMs === undefined ? {} : { age: String(Math.floor(ageMs / 1000)) }) };
}

/** What is served in the `mirror` form has the client's next steps watched. */
async function noteManifest(
  { configGate }: DistributionDeps,
  exchange: Exchange,
  manifest: StoredManifest,
): Promise<void> {
  if (!isMirrored(exchange)) return;
  configGate.note(exchange.client, manifest.digest, 'asked');
  await configGate.learn(exchange.client, manifest);
}

function isMirrored({ query }: Exchange): boolean {
  return query.has('ns');
}

async function lazyAnswer(
  deps: DistributionDeps,
  exchange: Exchange,
  tag: string,
  { manifest: original, stale }: FoundManifest,
): Promise<StoredManifest> {
  const { target, headers, signal } = exchange;
  const request = {
    userAgent: headers['user-agent'] ?? '',
    accept: headers.accept ?? '',
    isMirrored: isMirrored(exchange),
    isStale: stale !== undefined,
  };
  const answer = await deps.lazyImages.answer(target, original, request, signal);
  deps.servedImages.note(target, tag, original.digest, answer.digest);
  return answer;
}

/** OCI distribution spec, "Pulling blobs". */
export async function handleBlob(
  deps: DistributionDeps,
  exchange: Exchange,
  digest: Digest,
): Promise<Answer> {
  if (isMirrored(exchange)) {
    deps.configGate.note(exchange.client, digest, 'asked');
    if (exchange.method === 'GET') await deps.configGate.pass(exchange.client, digest, exchange.signal);
  }
  const { target, signal } = exchange;
  const request = { acceptsGzip: acceptsGzip(exchange), line: exchange.client, signal };
  const derived = await deps.derivedBlobs.get(target, digest, request);
  if (derived !== undefined) return answerDerivedBlob(deps, exchange, digest, derived);
  try {
    return await answerStoredBlob(deps, exchange, digest);
  } catch (error) {
    if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
    const made = await deps.derivedBlobs.make(target, digest, request);
    if (made === undefined) throw error;
    return answerDerivedBlob(deps, exchange, digest, made);
  }
}

function blobHeaders(digest: Digest): Record<string, string> {
  return { 'docker-content-digest': digest, ...IMMUTABLE };
}

function answerDerivedBlob(
  deps: DistributionDeps,
  exchange: Exchange,
  digest: Digest,
  { bytes, encoding, release }: DerivedBlob,
): Answer {
  return answerContent(
    {
      sizeBytes: bytes.byteLength,
      contentType: MEDIA_TYPES.octetStream,
      etag: encoding === undefined ? digest : `${digest}+${encoding}`,
      headers: {
        ...blobHeaders(digest),
        vary: 'accept-encoding',
        ...(encoding === undefined ? {} : { 'content-encoding': encoding }),
      },
      source: 'disk',
      async *read(range) {
        yield bytes.subarray(range.start, range.end);
        if (isMirrored(exchange)) deps.configGate.note(exchange.client, digest, 'got');
      },
      dispose: async () => release(),
    },
    exchange,
  );
}

async function answerStoredBlob(deps: DistributionDeps, exchange: Exchange, digest: Digest): Promise<Answer> {
  const headers = blobHeaders(digest);
  if (exchange.method === 'HEAD') {
    const { sizeBytes, cached } = await deps.layers.statBlob(exchange.target, digest, exchange.signal);
    return answerContent(
      {
        sizeBytes,
        contentType: MEDIA_TYPES.octetStream,
        etag: digest,
        headers,
        source: cached ? 'disk' : 'upstream',
        read: noBytes,
      },
      exchange,
    );
  }
  const { range, 'user-agent': userAgent = '', 'accept-encoding': codings = '' } = exchange.headers;
  if (deps.layers.isIndexed(exchange.target, digest))
    deps.pullLog.note(exchange.target, digest, {
      client: exchange.client,
      range,
      userAgent,
      acceptEncoding: codings,
    });
  const handle = await deps.layers.readBlob(exchange.target, digest, exchange.signal);
  return answerContent(
    {
      sizeBytes: handle.sizeBytes,
      contentType: MEDIA_TYPES.octetStream,
      etag: digest,
      headers,
      source: handle.source,
      maxGapBytes: handle.source === 'disk' ? undefined : UPSTREAM_GAP_BYTES,
      read: (range) => handle.lend(range, exchange.signal),
      dispose: async () => handle[Symbol.asyncDispose](),
    },
    exchange,
  );
}

/** The encoded form has other byte positions, so a request for a range gets the plain one. */
function acceptsGzip({ method, headers }: Exchange): boolean {
  if (method === 'GET' && headers.range !== undefined) return false;
  const codings = (headers['accept-encoding'] ?? '').split(',');
  return codings.some((coding) => /^\s*(gzip|x-gzip|\*)\s*(;\s*q=(?!0(\.0*)?\s*$).*)?$/i.test(coding));
}

async function* noBytes(): AsyncGenerator<Uint8Array, void, undefined> {
  // A HEAD answer has no body.
}

/** OCI distribution spec, "Listing Referrers"; pages by `last`, the digest of the entry before. */
export async function handleReferrers(
  deps: DistributionDeps,
  exchange: Exchange,
  digest: Digest,
): Promise<Answer> {
  const artifactTypes = exchange.query.getAll('artifactType').filter((type) => type !== '');
  const all = await deps.referrers.list(exchange.target, digest, artifactTypes, exchange.signal);
  const limit = parseCount(exchange.query, 'n', MAX_REFERRERS_PAGE) ?? MAX_REFERRERS_PAGE;
  const last = exchange.query.get('last');
  const start = last === null ? 0 : all.findIndex((descriptor) => descriptor.digest === last) + 1;
  const page = all.slice(start, start + Math.max(1, limit));
  const lastOfPage = page.at(-1);
  const headers = {
    ...(artifactTypes.length > 0 ? { 'oci-filters-applied': 'artifactType' } : {}),
    ...(lastOfPage !== undefined && start + page.length < all.length
      ? nextPage(exchange, { last: lastOfPage.digest })
      : {}),
  };
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: page };
  return jsonAnswer(index, { contentType: MEDIA_TYPES.ociIndex, headers });
}

/** OCI distribution spec, "Listing Tags". @param name  of the repository as the client calls it, upstream's prefix included */
export async function handleTags({ target, query, url, signal }: Exchange, name: string): Promise<Answer> {
  const limit = parseCount(query, 'n', MAX_TAGS);
  if (limit === 0) return jsonAnswer({ name, tags: [] });
  const last = query.get('last') || null;
  const { tags, next } = await target.client.listTags(
    target.repository,
    { ...(limit === undefined ? {} : { limit }), ...(last === null ? {} : { last }) },
    signal,
  );
  const headers =
    next === undefined
      ? {}
      : nextPage({ query, url }, { last: next, ...(limit === undefined ? {} : { n: String(limit) }) });
  return jsonAnswer({ name, tags }, { headers });
}
