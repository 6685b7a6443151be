import { isMirrorRequest } from '../../core/client-quirks.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
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
import { type RegistryResponse, IMMUTABLE, jsonResponse } from '../responses/registry-response.ts';
import { contentResponse } from '../responses/content-response.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { nextPageLink } from '../responses/next-page-link.ts';
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
  context: RequestContext,
  reference: Reference,
): Promise<RegistryResponse> {
  const found = await deps.lostDocuments.get(context.target, reference, context.signal);
  const { source, rateLimit, stale } = found;
  let { manifest } = found;
  // A digest always answers its own bytes; what a tag stands for may have been indexed.
  if ('tag' in reference) manifest = await lazyAnswer(deps, context, reference.tag, found);
  else await noteManifest(deps, context, manifest);
  return contentResponse(
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
    context,
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
  context: RequestContext,
  manifest: StoredManifest,
): Promise<void> {
  if (!isMirrored(context)) return;
  configGate.note(context.client, manifest.digest, 'asked');
  await configGate.learn(context.client, manifest);
}

function isMirrored({ query }: RequestContext): boolean {
  return isMirrorRequest(query);
}

async function lazyAnswer(
  deps: DistributionDeps,
  context: RequestContext,
  tag: string,
  { manifest: original, stale }: FoundManifest,
): Promise<StoredManifest> {
  const { target, headers, signal } = context;
  const request = {
    userAgent: headers['user-agent'] ?? '',
    accept: headers.accept ?? '',
    isMirrored: isMirrored(context),
    isStale: stale !== undefined,
  };
  const answer = await deps.lazyImages.answer(target, original, request, signal);
  deps.servedImages.note(target, tag, original.digest, answer.digest);
  return answer;
}

/** OCI distribution spec, "Pulling blobs". */
export async function handleBlob(
  deps: DistributionDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  if (isMirrored(context)) {
    deps.configGate.note(context.client, digest, 'asked');
    if (context.method === 'GET') await deps.configGate.pass(context.client, digest, context.signal);
  }
  const { target, signal } = context;
  const request = { acceptsGzip: acceptsGzip(context), fairnessKey: context.client, signal };
  const derived = await deps.derivedBlobs.get(target, digest, request);
  if (derived !== undefined) return answerDerivedBlob(deps, context, digest, derived);
  try {
    return await answerStoredBlob(deps, context, digest);
  } catch (error) {
    if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
    const made = await deps.derivedBlobs.make(target, digest, request);
    if (made === undefined) throw error;
    return answerDerivedBlob(deps, context, digest, made);
  }
}

function blobHeaders(digest: Digest): Record<string, string> {
  return { 'docker-content-digest': digest, ...IMMUTABLE };
}

function answerDerivedBlob(
  deps: DistributionDeps,
  context: RequestContext,
  digest: Digest,
  { bytes, encoding, release }: DerivedBlob,
): RegistryResponse {
  return contentResponse(
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
        if (isMirrored(context)) deps.configGate.note(context.client, digest, 'got');
      },
      dispose: async () => release(),
    },
    context,
  );
}

async function answerStoredBlob(
  deps: DistributionDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  const headers = blobHeaders(digest);
  if (context.method === 'HEAD') {
    const { sizeBytes, cached } = await deps.layers.statBlob(context.target, digest, context.signal);
    return contentResponse(
      {
        sizeBytes,
        contentType: MEDIA_TYPES.octetStream,
        etag: digest,
        headers,
        source: cached ? 'disk' : 'upstream',
        read: noBytes,
      },
      context,
    );
  }
  const { range, 'user-agent': userAgent = '', 'accept-encoding': codings = '' } = context.headers;
  if (deps.layers.belongsInIndex(context.target, digest))
    deps.pullLog.note(context.target, digest, context.client, { range, userAgent, acceptEncoding: codings });
  const handle = await deps.layers.readBlob(context.target, digest, context.signal);
  return contentResponse(
    {
      sizeBytes: handle.sizeBytes,
      contentType: MEDIA_TYPES.octetStream,
      etag: digest,
      headers,
      source: handle.source,
      maxGapBytes: handle.source === 'disk' ? undefined : UPSTREAM_GAP_BYTES,
      read: (range) => handle.lend(range, context.signal),
      dispose: async () => handle[Symbol.asyncDispose](),
    },
    context,
  );
}

/** The encoded form has other byte positions, so a request for a range gets the plain one. */
function acceptsGzip({ method, headers }: RequestContext): boolean {
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
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  const artifactTypes = context.query.getAll('artifactType').filter((type) => type !== '');
  const all = await deps.referrers.list(context.target, digest, artifactTypes, context.signal);
  const limit = parseCount(context.query, 'n', MAX_REFERRERS_PAGE) ?? MAX_REFERRERS_PAGE;
  const last = context.query.get('last');
  const start = last === null ? 0 : all.findIndex((descriptor) => descriptor.digest === last) + 1;
  const page = all.slice(start, start + Math.max(1, limit));
  const lastOfPage = page.at(-1);
  const headers = {
    ...(artifactTypes.length > 0 ? { 'oci-filters-applied': 'artifactType' } : {}),
    ...(lastOfPage !== undefined && start + page.length < all.length
      ? nextPageLink(context, { last: lastOfPage.digest })
      : {}),
  };
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: page };
  return jsonResponse(index, { contentType: MEDIA_TYPES.ociIndex, headers });
}

/** OCI distribution spec, "Listing Tags". @param name  of the repository as the client calls it, upstream's prefix included */
export async function handleTags(
  { target, query, url, signal }: RequestContext,
  name: string,
): Promise<RegistryResponse> {
  const limit = parseCount(query, 'n', MAX_TAGS);
  if (limit === 0) return jsonResponse({ name, tags: [] });
  const last = query.get('last') || null;
  const { tags, next } = await target.client.listTags(
    target.repository,
    { ...(limit === undefined ? {} : { limit }), ...(last === null ? {} : { last }) },
    signal,
  );
  const headers =
    next === undefined
      ? {}
      : nextPageLink({ query, url }, { last: next, ...(limit === undefined ? {} : { n: String(limit) }) });
  return jsonResponse({ name, tags }, { headers });
}
