import type { IncomingHttpHeaders } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';
import type { Target } from '../../upstream/target.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { jsonResponse } from '../responses/registry-response.ts';
import { type CatalogDeps, handleCatalog } from './catalog-handler.ts';
import {
  type DistributionDeps,
  handleBlob,
  handleManifest,
  handleReferrers,
  handleTags,
} from './distribution-handlers.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { frontPageResponse, REGISTRY_PAGE } from '../responses/front-page.ts';
import { handleImage, handleImageFile, type ImageDeps } from './image-handlers.ts';
import type { RegistryPath, RepositoryPath } from '../requests/registry-path.ts';
import { isHost } from '../requests/request-target.ts';
import {
  handleFile,
  handleFiles,
  handleLayer,
  handleSpan,
  handleSpans,
  handleTar,
  type SpanDeps,
} from './span-handlers.ts';

export interface RegistryDeps extends DistributionDeps, SpanDeps, ImageDeps, CatalogDeps {}

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD';
  readonly path: RegistryPath;
  readonly query: URLSearchParams;
  readonly client: string;
  readonly headers: IncomingHttpHeaders;
  /** Host that the client addresses, with its port. */
  readonly host: string | undefined;
  readonly url: string;
  readonly signal: AbortSignal;
  /** Told of the repository once it is known. */
  readonly onTarget: (target: Target) => void;
}

/** Answer a request of the registry listener: choose the upstream, ask whether the client may read, then go to the handler of the route. */
export async function routeRegistryRequest(
  deps: RegistryDeps,
  request: RegistryRequest,
): Promise<RegistryResponse> {
  const { path, query, headers, client, signal } = request;
  if (path.route === 'root') return frontPageResponse(REGISTRY_PAGE, headers);
  const namespace = namespaceOf(query);
  const choice = { namespace, host: request.host };
  const { authorization } = headers;
  if (path.route === 'base' || path.route === 'catalog') {
    const upstream = deps.upstreams.selectClient(choice);
    const target = upstream && { client: upstream, repository: '' };
    const refusal = await deps.access.check({ authorization, client, path, target, signal });
    if (refusal !== undefined) return refusal;
    if (path.route === 'catalog') return handleCatalog(deps, request, { client: upstream, namespace });
    return jsonResponse({}, { headers: { 'docker-distribution-api-version': 'registry/2.0' } });
  }
  const target = deps.upstreams.select({ ...choice, name: path.name });
  request.onTarget(target);
  const refusal = await deps.access.check({ authorization, client, path, target, signal });
  if (refusal !== undefined) return refusal;
  const answer = await dispatch(deps, { ...request, target }, path);
  if (namespace === undefined) return answer;
  // Distribution spec, "Registry proxying": a registry that honours `ns` says so.
  return { ...answer, headers: { ...answer.headers, 'oci-namespace': namespace } };
}

/**
 * @throws SpandrelError QUERY_INVALID for several that differ: two readers would take different ones; DENIED for what is no host, which
 * may be one in lower case (U+212A is a `k` then), and cannot stand in a header
 */
function namespaceOf(query: URLSearchParams): string | undefined {
  const [namespace, ...others] = new Set(query.getAll('ns'));
  if (others.length > 0) throw new SpandrelError('QUERY_INVALID', '`ns` is given twice');
  if (namespace !== undefined && !isHost(namespace))
    throw new SpandrelError('DENIED', 'the registry in `ns` is not an upstream of this proxy');
  return namespace;
}

function dispatch(
  deps: RegistryDeps,
  context: RequestContext,
  path: RepositoryPath,
): Promise<RegistryResponse> {
  switch (path.route) {
    case 'manifest':
      return handleManifest(deps, context, path.reference);
    case 'blob':
      return handleBlob(deps, context, path.digest);
    case 'referrers':
      return handleReferrers(deps, context, path.digest);
    case 'tags':
      return handleTags(context, path.name);
    case 'layer':
      return handleLayer(deps, context, path.digest);
    case 'spans':
      return handleSpans(deps, context, path.digest);
    case 'span':
      return handleSpan(deps, context, path.digest, path.spanId);
    case 'tar':
      return handleTar(deps, context, path.digest);
    case 'files':
      return handleFiles(deps, context, path.digest);
    case 'file':
      return handleFile(deps, context, path.digest, path.filePath);
    case 'image':
      return handleImage(deps, context, path.reference);
    case 'imageFile':
      return handleImageFile(deps, context, path.reference, path.filePath);
  }
}
