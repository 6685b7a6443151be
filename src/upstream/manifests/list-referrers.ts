import type { Descriptor } from '../../core/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { parseDescriptorList } from './parse-descriptor-list.ts';
import { parseNextQuery } from './parse-next-query.ts';
import { fetchManifest } from './fetch-manifest.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';

/** Total for all pages. */
const MAX_REFERRER_BYTES = 4 * 2 ** 20;
const MAX_PAGES = 100;
/** Statuses of registries without the API: unknown route, or unknown method. */
export const LACKS_API: ReadonlySet<number> = new Set([404, 405, 501]);
/** Distribution spec, "Referrers Tag Schema": the encoded part of the digest is truncated. */
const MAX_TAG_HEX_DIGITS = 64;

/**
 * All pages of the Referrers API (distribution spec, "Listing Referrers"); the fallback tag if the upstream
 * lacks it.
 * @throws as {@link RegistryClient.listReferrers}
 */
export async function listReferrers(
  api: RegistryApi,
  repository: string,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  let bytesLeft = MAX_REFERRER_BYTES;
  let query = new URLSearchParams();
  for (let page = 0; page < MAX_PAGES; page++) {
    const response = await api.request({
      kind: 'referrers',
      path: `${repository}/referrers/${digest}`,
      query,
      repository,
      headers: { accept: MEDIA_TYPES.ociIndex },
      signal,
    });
    if (page === 0 && LACKS_API.has(response.status)) {
      await response.body.discard();
      const fallback = await readFallbackTag(api, repository, digest, signal);
      return fallback === undefined ? [] : parseDescriptorList(api.upstream, fallback);
    }
    if (response.status !== 200) throw await readFailure(api.upstream, response, 'MANIFEST_UNKNOWN');
    const bytes = await response.body.read(bytesLeft);
    bytesLeft -= bytes.byteLength;
    for (const descriptor of await parseDescriptorList(api.upstream, bytes)) found.push(descriptor);
    const next = parseNextQuery(response.headers.link);
    if (next === undefined) return found;
    query = next;
  }
  throw new SpandrelError(
    'UPSTREAM_PROTOCOL',
    `upstream ${api.upstream}: more than ${MAX_PAGES} pages of referrers`,
  );
}

/** Tag that lists the referrers of a manifest: distribution spec, "Referrers Tag Schema". */
export function fallbackTag(digest: Digest): string {
  return `${digestAlgorithm(digest)}-${digestHex(digest).slice(0, MAX_TAG_HEX_DIGITS)}`;
}

/** The index behind {@link fallbackTag}; `undefined` if there is none. */
export async function readFallbackTag(
  api: RegistryApi,
  repository: string,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  try {
    const { bytes } = await fetchManifest(api, {
      repository,
      reference: { tag: fallbackTag(digest) },
      accept: [MEDIA_TYPES.ociIndex],
      maxBytes: MAX_REFERRER_BYTES,
      signal,
    });
    return bytes;
  } catch (error) {
    if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN')) return undefined;
    throw error;
  }
}
