import type { FastifyInstance } from 'fastify';

import { isMirrorRequest } from '../../core/client-quirks.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { BlobContents, BlobRequest } from '../../images/contents/blob-contents.ts';
import type { ManifestContents, ManifestRequest } from '../../images/contents/manifest-contents.ts';
import type { Referrers } from '../../images/lazy/referrers.ts';
import type { FoundManifest } from '../../images/manifests/manifests.ts';
import { acceptsCoding } from '../requests/accepts-coding.ts';
import { acceptsGzip } from '../requests/accepts-gzip.ts';
import { readForwardedClient } from '../requests/read-forwarded-client.ts';
import { parseCount } from '../requests/parse-count.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { contentResponse } from '../responses/content-response.ts';
import { nextPageLink } from '../responses/next-page-link.ts';
import { redirectResponse } from '../responses/redirect-response.ts';
import { jsonResponse } from '../responses/registry-response.ts';
import { addRepositoryRoute } from './add-route.ts';

export interface DistributionRoutesDeps {
  readonly manifestContents: ManifestContents;
  readonly blobContents: BlobContents;
  readonly referrers: Referrers;
}

/** ECR and the distribution project also cut a larger `n`. */
const MAX_TAGS = 1000;
const MAX_REFERRERS_PAGE = 1000;

/** Fastify plugin: pull and content discovery of the OCI distribution spec. */
export async function distributionRoutes(
  server: FastifyInstance,
  { manifestContents, blobContents, referrers }: DistributionRoutesDeps,
): Promise<void> {
  addRepositoryRoute(server, 'manifest', async (context, target, { reference }) => {
    const manifest = await manifestContents.open(target, reference, manifestRequest(context));
    return contentResponse(manifest, context, {
      // A client that cannot use an index gets the original image.
      ...('tag' in reference ? { vary: 'accept, user-agent' } : {}),
      ...manifest.rateLimit,
      ...(manifest.stale === undefined ? {} : staleness(manifest.stale)),
    });
  });

  addRepositoryRoute(server, 'blob', async (context, target, { digest }) => {
    const blob = await blobContents.open(target, digest, blobRequest(context));
    return blob instanceof URL ? redirectResponse(blob, digest) : contentResponse(blob, context);
  });

  /** Pages by `last`, the digest of the entry before. */
  addRepositoryRoute(server, 'referrers', async (context, target, { digest }) => {
    const { query, signal } = context;
    const artifactTypes = query.getAll('artifactType').filter((type) => type !== '');
    const limit = parseCount(query, 'n', MAX_REFERRERS_PAGE) ?? MAX_REFERRERS_PAGE;
    const page = { after: query.get('last') ?? undefined, limit: Math.max(1, limit) };
    const { descriptors, next } = await referrers.page(target, digest, { artifactTypes, ...page }, signal);
    const headers = {
      ...(artifactTypes.length > 0 ? { 'oci-filters-applied': 'artifactType' } : {}),
      ...(next === undefined ? {} : nextPageLink(context, { last: next })),
    };
    const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: descriptors };
    return jsonResponse(index, { contentType: MEDIA_TYPES.ociIndex, headers });
  });

  /** The response has the repository's name as the client wrote it, with the upstream's prefix. */
  addRepositoryRoute(server, 'tags', async (context, { client, repository }, { name }) => {
    const limit = parseCount(context.query, 'n', MAX_TAGS);
    if (limit === 0) return jsonResponse({ name, tags: [] });
    const last = context.query.get('last') || undefined;
    const page = { ...(limit === undefined ? {} : { limit }), ...(last === undefined ? {} : { last }) };
    const { tags, next } = await client.listTags(repository, page, context.signal);
    const n: Record<string, string> = limit === undefined ? {} : { n: String(limit) };
    const headers = next === undefined ? {} : nextPageLink(context, { last: next, ...n });
    return jsonResponse({ name, tags }, { headers });
  });
}

function manifestRequest({ headers, query, client, signal }: RequestContext): ManifestRequest {
  const { accept = '', 'user-agent': userAgent = '' } = headers;
  return { userAgent, accept, isMirrored: isMirrorRequest(query), client, signal };
}

function blobRequest(context: RequestContext): BlobRequest {
  const { method, headers, query, isFromReplica, client, connection, signal } = context;
  const { range, 'user-agent': userAgent = '', 'accept-encoding': acceptEncoding = '' } = headers;
  return {
    isFromReplica,
    isSizeOnly: method === 'HEAD',
    acceptsGzip: acceptsGzip(context),
    acceptsCoding: (coding) => acceptsCoding(context, coding),
    isMirrored: isMirrorRequest(query),
    range,
    userAgent,
    acceptEncoding,
    client,
    connection,
    forwardedClient: readForwardedClient(headers),
    signal,
  };
}

/** The tag may have moved: RFC 9111, section 5.1; distribution spec, "Warnings". */
function staleness({ ageMs }: NonNullable<FoundManifest['stale']>): Record<string, string> {
  const warning = '299 - "the upstream does not answer: the tag is as last seen"';
  return { warning, ...(ageMs === undefined ? {} : { age: String(Math.floor(ageMs / 1000)) }) };
}
