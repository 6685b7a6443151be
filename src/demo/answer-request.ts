import { type Digest, parseDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import { contentAnswer, errorAnswer, jsonAnswer, type RegistryAnswer } from './registry-answer.ts';
import type { RegistryContent } from './registry-content.ts';

export interface RouteRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** The Range header. */
  readonly range: string | undefined;
}

export interface RouteOptions {
  /** Whether to support Range; some registries ignore it. */
  readonly ranges: boolean;
  /** Whether to serve the Referrers API; the registry of the distribution project does not. */
  readonly referrers: boolean;
  /** Location of a blob, if GET of blobs redirects. */
  readonly redirect?: ((repository: string, digest: Digest) => string) | undefined;
}

/** Responds to pull requests of the OCI distribution spec, errors included. */
export function answerRequest(
  content: RegistryContent,
  options: RouteOptions,
  request: RouteRequest,
): RegistryAnswer {
  try {
    return route(content, options, request);
  } catch (error) {
    if (isSpandrelError(error)) return errorAnswer(error);
    throw error;
  }
}

/** The repository in a path of the API. */
export function repositoryOf(path: string): string | undefined {
  return /^\/v2\/(.+)\/(?:manifests|blobs|referrers|tags)\/[^/]+$/.exec(path)?.[1];
}

function route(content: RegistryContent, options: RouteOptions, request: RouteRequest): RegistryAnswer {
  const { method, path, query, range } = request;
  if (method !== 'GET' && method !== 'HEAD')
    throw new SpandrelError('UNSUPPORTED', `${method} is not supported`);
  if (path === '/v2/')
    return jsonAnswer({}, undefined, { 'docker-distribution-api-version': 'registry/2.0' });
  const repository = repositoryOf(path);
  if (repository === undefined) throw new SpandrelError('ROUTE_UNKNOWN', `no route ${path}`);
  const [kind = '', reference = ''] = path.slice(`/v2/${repository}/`.length).split('/');
  if (kind === 'manifests') {
    const { digest, mediaType, bytes } = content.manifest(repository, reference);
    return contentAnswer(bytes, { 'content-type': mediaType, 'docker-content-digest': digest }, undefined);
  }
  if (kind === 'blobs') {
    const { digest, bytes } = content.blob(repository, reference);
    if (options.redirect !== undefined && method === 'GET') {
      return {
        status: 307,
        headers: { location: options.redirect(repository, digest) },
        body: Buffer.alloc(0),
        bodyStart: 0,
      };
    }
    return blobAnswer(bytes, options.ranges ? range : undefined, {
      'docker-content-digest': digest,
      ...(options.ranges ? { 'accept-ranges': 'bytes' } : {}),
    });
  }
  if (kind === 'tags' && reference === 'list') return listTags(content, repository, query);
  if (kind === 'referrers' && options.referrers)
    return listReferrers(content, repository, reference, query.get('artifactType'));
  throw new SpandrelError('ROUTE_UNKNOWN', `no route ${path}`);
}

/** A blob, or a range of it. */
export function blobAnswer(
  bytes: Uint8Array,
  range: string | undefined,
  headers: Readonly<Record<string, string>> = {},
): RegistryAnswer {
  return contentAnswer(bytes, { 'content-type': MEDIA_TYPES.octetStream, ...headers }, range);
}

/** OCI distribution spec, "Listing Tags". */
function listTags(content: RegistryContent, repository: string, query: URLSearchParams): RegistryAnswer {
  const last = query.get('last') ?? '';
  const count = query.get('n');
  if (count !== null && !/^\d{1,9}$/.test(count))
    throw new SpandrelError('QUERY_INVALID', `n is not a number: ${count}`);
  const left = content.tags(repository).filter((tag) => tag > last);
  const tags = left.slice(0, count === null ? left.length : Number(count));
  const lastTag = tags.at(-1);
  const hasMore = lastTag !== undefined && tags.length < left.length;
  const next = `/v2/${repository}/tags/list?n=${count}&last=${encodeURIComponent(lastTag ?? '')}`;
  return jsonAnswer({ name: repository, tags }, undefined, hasMore ? { link: `<${next}>; rel="next"` } : {});
}

/** OCI distribution spec, "Listing Referrers". */
function listReferrers(
  content: RegistryContent,
  repository: string,
  reference: string,
  artifactType: string | null,
): RegistryAnswer {
  const all = content.referrers(repository, parseDigest(reference));
  const manifests =
    artifactType === null ? all : all.filter((referrer) => referrer.artifactType === artifactType);
  const headers = artifactType === null ? {} : { 'oci-filters-applied': 'artifactType' };
  return jsonAnswer(
    { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests },
    MEDIA_TYPES.ociIndex,
    headers,
  );
}
