import type { Descriptor } from '../../core/descriptor.ts';
import { type Digest, digestOf } from '../../core/digest.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { parseObjectWithList } from '../auth/parse-json-object.ts';
import { fallbackTag, LACKS_API, readFallbackTag } from '../manifests/list-referrers.ts';
import { pushManifest } from './push-manifest.ts';

/** The fallback tag of a subject. */
export interface FallbackTag {
  readonly tag: string;
  /** The entry was added, or would be; false if it was there. */
  readonly isNew: boolean;
}

export interface NewReferrer {
  readonly repository: string;
  readonly subject: Digest;
  readonly referrer: Descriptor;
  /** Adds nothing. */
  readonly isDryRun: boolean;
  readonly signal: AbortSignal | undefined;
}

/**
 * Distribution spec, "Referrers Tag Schema". Does nothing if the registry has the Referrers API. Two clients
 * that add to one tag at the same time may lose an entry: the spec has no way to prevent it.
 * @returns the tag that lists the referrer; `undefined` if the registry lists it itself
 * @throws as {@link RegistryClient.listInFallbackTag}
 */
export async function listInFallbackTag(
  api: RegistryApi,
  wanted: NewReferrer,
): Promise<FallbackTag | undefined> {
  const { repository, subject, referrer, isDryRun, signal } = wanted;
  if (await hasReferrersApi(api, wanted)) return undefined;
  const tag = fallbackTag(subject);
  const listed = await readListed(api, wanted);
  const isListed = (entry: unknown): boolean =>
    (entry as { readonly digest?: unknown } | null)?.digest === referrer.digest;
  if (listed.some(isListed)) return { tag, isNew: false };
  if (isDryRun) return { tag, isNew: true };
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [...listed, referrer] };
  const bytes = Buffer.from(JSON.stringify(index));
  const document = { bytes, digest: digestOf(bytes), mediaType: MEDIA_TYPES.ociIndex };
  await pushManifest(api, { repository, reference: { tag }, document, signal });
  return { tag, isNew: true };
}

async function hasReferrersApi(
  api: RegistryApi,
  { repository, subject, signal }: NewReferrer,
): Promise<boolean> {
  const response = await api.request({
    kind: 'referrers',
    path: `${repository}/referrers/${subject}`,
    repository,
    headers: { accept: MEDIA_TYPES.ociIndex },
    signal,
  });
  await response.body.discard();
  return !LACKS_API.has(response.status);
}

/** Entries of the tag as they are, with fields that nobody here knows. */
async function readListed(
  api: RegistryApi,
  { repository, subject, signal }: NewReferrer,
): Promise<readonly unknown[]> {
  const bytes = await readFallbackTag(api, repository, subject, signal);
  if (bytes === undefined) return [];
  const { manifests } = await parseObjectWithList(api.upstream, bytes, 'manifests');
  return Array.isArray(manifests) ? manifests : [];
}
