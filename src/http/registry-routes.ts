import type { IncomingHttpHeaders } from 'node:http';

import type { Upstreams } from '../upstream/upstreams.ts';
import type { Answer } from './answer.ts';
import { jsonAnswer } from './answer.ts';
import {
  type DistributionDeps,
  handleBlob,
  handleManifest,
  handleReferrers,
  handleTags,
} from './distribution-handlers.ts';
import type { Exchange } from './exchange.ts';
import { handleImage, handleImageFile, type ImageDeps } from './image-handlers.ts';
import type { RegistryPath } from './registry-path.ts';
import {
  handleFile,
  handleFiles,
  handleLayer,
  handleSpan,
  handleSpans,
  handleTar,
  type SpanDeps,
} from './span-handlers.ts';

export interface RegistryDeps extends DistributionDeps, SpanDeps, ImageDeps {
  readonly upstreams: Upstreams;
}

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD';
  readonly path: RegistryPath;
  readonly query: URLSearchParams;
  readonly client: string;
  readonly headers: IncomingHttpHeaders;
  readonly url: string;
  readonly signal: AbortSignal;
}

/** Answer a request of the registry listener: choose the upstream, then the handler of the route. */
export async function routeRegistryRequest(deps: RegistryDeps, request: RegistryRequest): Promise<Answer> {
  const { path, query, headers } = request;
  if (path.route === 'base')
    return jsonAnswer({}, { headers: { 'docker-distribution-api-version': 'registry/2.0' } });
  const namespace = query.get('ns');
  const target = deps.upstreams.select({
    name: path.name,
    ...(namespace === null ? {} : { namespace }),
    host: headers.host,
  });
  const answer = await dispatch(deps, { ...request, target }, path);
  if (namespace === null) return answer;
  // Distribution spec, "Registry proxying": a registry that honours `ns` says so.
  return { ...answer, headers: { ...answer.headers, 'oci-namespace': namespace } };
}

function dispatch(
  deps: RegistryDeps,
  exchange: Exchange,
  path: Exclude<RegistryPath, { route: 'base' }>,
): Promise<Answer> {
  switch (path.route) {
    case 'manifest':
      return handleManifest(deps, exchange, path.reference);
    case 'blob':
      return handleBlob(deps, exchange, path.digest);
    case 'referrers':
      return handleReferrers(deps, exchange, path.digest);
    case 'tags':
      return handleTags(exchange);
    case 'layer':
      return handleLayer(deps, exchange, path.digest);
    case 'spans':
      return handleSpans(deps, exchange, path.digest);
    case 'span':
      return handleSpan(deps, exchange, path.digest, path.spanId);
    case 'tar':
      return handleTar(deps, exchange, path.digest);
    case 'files':
      return handleFiles(deps, exchange, path.digest);
    case 'file':
      return handleFile(deps, exchange, path.digest, path.filePath);
    case 'image':
      return handleImage(deps, exchange, path.reference);
    case 'imageFile':
      return handleImageFile(deps, exchange, path.reference, path.filePath);
  }
}
