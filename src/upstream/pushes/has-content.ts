import type { Digest } from '../../core/digest.ts';
import { MANIFEST_MEDIA_TYPES } from '../../core/media-types.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { readPushFailure } from './read-push-failure.ts';

/** A blob or manifest of a repository. */
export interface ContentName {
  readonly repository: string;
  readonly digest: Digest;
  readonly signal: AbortSignal | undefined;
}

/**
 * Whether a repository has content that would be pushed, by one HEAD. False also if HEAD is refused: a push
 * is then right in any case.
 * @throws SpandrelError UPSTREAM_* if the registry is overloaded or unreachable
 */
export async function hasContent(
  api: RegistryApi,
  kind: 'blob' | 'manifest',
  { repository, digest, signal }: ContentName,
): Promise<boolean> {
  const response = await api.request({
    kind,
    method: 'HEAD',
    path: `${repository}/${kind}s/${digest}`,
    repository,
    access: 'pull,push',
    headers: kind === 'manifest' ? { accept: MANIFEST_MEDIA_TYPES.join(', ') } : {},
    signal,
  });
  const { status } = response;
  if (status === 429 || (status >= 500 && status !== 501))
    throw await readPushFailure(api.upstream, response);
  await response.body.discard();
  return status === 200;
}
