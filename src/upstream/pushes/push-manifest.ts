import { formatReference, type Reference } from '../../core/image-reference.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { readPushFailure } from './read-push-failure.ts';

export interface PushedManifest {
  /**
   * The registry lists the manifest as a referrer of its `subject`: distribution spec, "Pushing Manifests
   * with Subject".
   */
  readonly isListedReferrer: boolean;
}

export interface ManifestPush {
  readonly repository: string;
  readonly reference: Reference;
  readonly document: ManifestDocument;
  readonly signal: AbortSignal | undefined;
}

/** Distribution spec, "Pushing Manifests". @throws as {@link RegistryClient.pushManifest} */
export async function pushManifest(
  api: RegistryApi,
  { repository, reference, document, signal }: ManifestPush,
): Promise<PushedManifest> {
  const response = await api.request({
    kind: 'push',
    method: 'PUT',
    path: `${repository}/manifests/${formatReference(reference)}`,
    repository,
    access: 'pull,push',
    headers: { 'content-type': document.mediaType },
    body: document.bytes,
    signal,
  });
  const { status, headers } = response;
  if (status < 200 || status >= 300) throw await readPushFailure(api.upstream, response);
  await response.body.discard();
  return { isListedReferrer: headers['oci-subject'] !== undefined };
}
