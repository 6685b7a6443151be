import type { IncomingHttpHeaders } from 'node:http';

import type { Target } from '../images/target.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { AccessGate } from './access/access-gate.ts';
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
  readonly access: AccessGate;
}

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD';
  readonly path: RegistryPath;
  readonly query: URLSearchParams;
  readonly client: string;
  readonly headers: IncomingHttpHeaders;
  /** What the client believes to talk to, its port included. */
  readonly host: string | undefined;
  readonly url: string;
  readonly signal: AbortSignal;
  /** Told of the repository once it is known. */
  readonly onTarget: (target: Target) => void;
}

/** Answer a request of the registry listener: choose the upstream, ask whether the client may read, then go to the handler of the route. */
export async function routeRegistryRequest(deps: RegistryDeps, request: RegistryRequest): Promise<Answer> {
  const { path, query, headers, signal } = request;
  const namespace = query.get('ns');
  const choice = {
    ...(namespace === null ? {} : { namespace }),
    host: request.host,
  };
  const { authorization } = headers;
  if (path.route === 'base') {
    const client = deps.upstreams.selectClient(choice);
    const target = client && { client, repository: '' };
    const refusal = await deps.access.check({ authorization, path, target, signal });
    return refusal ?? jsonAnswer({}, { headers: { 'docker-distribution-api-version': 'registry/2.0' } });
  }
  const target = deps.upstreams.select({ ...choice, name: path.name });
  request.onTarget(target);
  const refusal = await deps.access.check({ authorization, path, target, signal });
  if (refusal !== undefined) return refusal;
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
