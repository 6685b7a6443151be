import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { formatReference, type Reference } from '../../core/image-reference.ts';
import { MANIFEST_MEDIA_TYPES } from '../../core/media-types.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import type { ApiRequest, RegistryApi } from './registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';

/** The resource that a probe requests. */
export type ProbeSubject =
  | { readonly kind: 'ping' }
  | { readonly kind: 'tags' }
  | { readonly kind: 'manifest'; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly digest: Digest };

/**
 * `readable`: the upstream sent it. `refused`: the upstream requires (other) credentials, and sent this
 * challenge. `denied`: the upstream knows the client and refuses it. `unknown`: the resource does not exist,
 * which says nothing about the repository.
 */
export type ProbeOutcome =
  | { readonly kind: 'readable' | 'denied' | 'unknown' }
  | { readonly kind: 'refused'; readonly challenge: string | undefined };

/**
 * Requests one resource of a repository with the credentials of `authorizer` only. Costs one request; after a
 * challenge, one more, and one to the token service.
 * @throws SpandrelError an UPSTREAM_* code if the upstream gives no verdict; the reason of the signal
 */
export async function probeRead(
  api: RegistryApi,
  repository: string,
  subject: ProbeSubject,
  { authorizer, signal }: { readonly authorizer: Authorizer; readonly signal?: AbortSignal | undefined },
): Promise<ProbeOutcome> {
  try {
    const response = await api.request({ ...requestOf(repository, subject), authorizer, signal });
    const { status, headers } = response;
    // 416: the blob is empty.
    if ((status >= 200 && status < 300) || status === 416) {
      await response.body.discard();
      return { kind: 'readable' };
    }
    const failure = await readFailure(api.upstream, response, 'NAME_UNKNOWN');
    if (status === 401) return { kind: 'refused', challenge: headers['www-authenticate'] };
    if (status === 403) return { kind: 'denied' };
    if (status === 404) return { kind: 'unknown' };
    throw failure;
  } catch (error) {
    if (isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED'))
      return { kind: 'refused', challenge: undefined };
    throw error;
  }
}

function requestOf(repository: string, subject: ProbeSubject): Omit<ApiRequest, 'signal'> {
  switch (subject.kind) {
    case 'ping':
      return { kind: 'ping', path: '', repository: '' };
    case 'tags':
      return {
        kind: 'tags',
        path: `${repository}/tags/list`,
        query: new URLSearchParams({ n: '1' }),
        repository,
      };
    case 'manifest':
      return {
        kind: 'manifest',
        method: 'HEAD',
        path: `${repository}/manifests/${formatReference(subject.reference)}`,
        repository,
        headers: { accept: [...MANIFEST_MEDIA_TYPES, '*/*'].join(', ') },
      };
    case 'blob':
      // Not HEAD: signed URLs are valid for GET only, and some registries refuse HEAD where they allow GET.
      return {
        kind: 'blob',
        path: `${repository}/blobs/${subject.digest}`,
        repository,
        headers: { range: 'bytes=0-0' },
      };
  }
}
