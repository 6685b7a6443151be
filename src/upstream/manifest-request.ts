import { type Digest, digestAlgorithm, digestOfLarge, isDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { formatReference, type Reference } from '../core/image-name.ts';
import { MANIFEST_MEDIA_TYPES, MEDIA_TYPES } from '../core/media-types.ts';
import type { ApiResponse, RegistryApi } from './registry-api.ts';
import { readFailure } from './upstream-failure.ts';

export interface FetchedManifest {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Content-Type without parameters. */
  readonly mediaType: string;
  /** Of the bytes; of the algorithm that was asked for; for a tag of the one that the registry names it by, else sha256. */
  readonly digest: Digest;
}

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
  const encoding = response.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') {
    response.body.destroy();
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${api.upstream}: the manifest is encoded, which nobody asked for`,
    );
  }
  const bytes = new Uint8Array(await response.body.read(query.maxBytes));
  const announced = response.headers['docker-content-digest'];
  const expected =
    'digest' in reference
      ? reference.digest
      : typeof announced === 'string' && isDigest(announced)
        ? announced
        : undefined;
  if (expected !== undefined && (await digestOfLarge(bytes, digestAlgorithm(expected))) !== expected) {
    throw new SpandrelError(
      'BLOB_CORRUPT',
      `upstream ${api.upstream}: the manifest does not match its digest ${expected}`,
    );
  }
  return {
    bytes,
    mediaType:
      response.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() || MEDIA_TYPES.octetStream,
    digest: expected ?? (await digestOfLarge(bytes)),
  };
}

/**
 * Digest of a manifest without its bytes, which registries that count pulls do not count. Where HEAD is refused or says no digest
 * (ECR Public, some proxies) the manifest itself is fetched.
 * @throws as {@link RegistryClient.fetchManifest}
 */
export async function fetchManifestDigest(api: RegistryApi, query: ManifestQuery): Promise<Digest> {
  const head = await requestManifest(api, query, 'HEAD');
  if (head.status === 429 || head.status >= 500)
    throw await readFailure(api.upstream, head, 'MANIFEST_UNKNOWN');
  await head.body.discard();
  const announced = head.headers['docker-content-digest'];
  return head.status === 200 && typeof announced === 'string' && isDigest(announced)
    ? announced
    : (await fetchManifest(api, query)).digest;
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
    signal,
  });
}
