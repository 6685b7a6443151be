import { type Digest, digestAlgorithm, digestOfLarge, isDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { formatReference, type Reference } from '../../core/image-reference.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { MANIFEST_MEDIA_TYPES, MEDIA_TYPES } from '../../core/media-types.ts';
import { describePage, identifyManifest } from './identify-manifest.ts';
import type { ApiResponse, RegistryApi } from '../api/registry-api.ts';
import { type RateLimitHeaders, readRateLimit } from '../transport/rate-limit-headers.ts';
import { readFailure } from '../faults/failed-response.ts';

/** A manifest from an upstream. Its type is that of {@link identifyManifest}. */
export interface FetchedManifest extends ManifestDocument {
  readonly rateLimit?: RateLimitHeaders | undefined;
}

/** An existing manifest. */
export type ManifestStat = Pick<FetchedManifest, 'digest' | 'rateLimit'>;

export interface ManifestQuery {
  readonly repository: string;
  readonly reference: Reference;
  readonly accept?: readonly string[] | undefined;
  readonly maxBytes: number;
  readonly signal: AbortSignal | undefined;
}

/** Distribution spec, "Pulling manifests". @throws as {@link RegistryClient.fetchManifest} */
export async function fetchManifest(api: RegistryApi, query: ManifestQuery): Promise<FetchedManifest> {
  const { reference } = query;
  const response = await requestManifest(api, query, 'GET');
  if (response.status !== 200) throw await readFailure(api.upstream, response, 'MANIFEST_UNKNOWN');
  // A copy, outside of Buffer's pool: caches keep it.
  const bytes = Buffer.from(new Uint8Array(await response.body.read(query.maxBytes)).buffer);
  const { 'docker-content-digest': announced } = response.headers;
  const rateLimit = rateLimitOf(response);
  const mediaType = await identifyManifest(bytes);
  const refuse = (code: 'BLOB_CORRUPT' | 'UPSTREAM_PROTOCOL', words: string): never => {
    throw new SpandrelError(code, `upstream ${api.upstream}: ${words}`);
  };
  if ('tag' in reference) {
    if (mediaType === undefined)
      return refuse(
        'UPSTREAM_PROTOCOL',
        `${describePage(bytes) ?? 'something else'} where a manifest should be`,
      );
    // The announced digest only chooses the algorithm; the digest itself is computed.
    const algorithm = isAnnouncedDigest(announced) ? digestAlgorithm(announced) : undefined;
    return { bytes, mediaType, digest: await digestOfLarge(bytes, algorithm), rateLimit };
  }
  const { digest } = reference;
  // Any content with the digest is right.
  if ((await digestOfLarge(bytes, digestAlgorithm(digest))) === digest)
    return { bytes, mediaType: mediaType ?? MEDIA_TYPES.octetStream, digest, rateLimit };
  const page = describePage(bytes);
  return page === undefined
    ? refuse('BLOB_CORRUPT', `the manifest does not match its digest ${digest}`)
    : refuse('UPSTREAM_PROTOCOL', `${page} where the manifest ${digest} should be`);
}

function isAnnouncedDigest(header: string | string[] | undefined): header is Digest {
  return typeof header === 'string' && isDigest(header);
}

/**
 * Digest of a manifest, by HEAD, which does not count as a pull. If HEAD is refused or has no digest (ECR
 * Public and some proxies, with 404, 500 or 501 among others), fetches the manifest.
 * @throws as {@link RegistryClient.fetchManifest}
 */
export async function statManifest(api: RegistryApi, query: ManifestQuery): Promise<ManifestStat> {
  const head = await requestManifest(api, query, 'HEAD');
  if (head.status === 429 || head.status > 501)
    throw await readFailure(api.upstream, head, 'MANIFEST_UNKNOWN');
  await head.body.discard();
  const announced = head.headers['docker-content-digest'];
  return head.status === 200 && isAnnouncedDigest(announced)
    ? { digest: announced, rateLimit: rateLimitOf(head) }
    : fetchManifest(api, query);
}

function rateLimitOf({ headers, isUnproven }: ApiResponse): RateLimitHeaders | undefined {
  return isUnproven === true ? undefined : readRateLimit(headers);
}

function requestManifest(
  api: RegistryApi,
  { repository, reference, accept, signal }: ManifestQuery,
  method: 'GET' | 'HEAD',
): Promise<ApiResponse> {
  return api.request({
    kind: 'manifest',
    method,
    path: `${repository}/manifests/${formatReference(reference)}`,
    repository,
    headers: { accept: (accept ?? [...MANIFEST_MEDIA_TYPES, '*/*']).join(', ') },
    isVerified: 'digest' in reference,
    signal,
  });
}
