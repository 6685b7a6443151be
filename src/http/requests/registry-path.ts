import { type Digest, parseDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { parseReference, type Reference } from '../../core/image-reference.ts';
import { percentDecode } from '../../tar/percent-encode.ts';
import { encodeRawText, type RawText } from '../../tar/raw-text.ts';

/** The parsed path of a request. */
export type RegistryPath =
  RepositoryPath | { readonly route: 'root' } | { readonly route: 'base' } | { readonly route: 'catalog' };

/** A path below a repository. `name` may have the upstream's prefix, and is not checked yet. */
export type RepositoryPath =
  | { readonly route: 'manifest'; readonly name: string; readonly reference: Reference }
  | { readonly route: 'blob'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'referrers'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'tags'; readonly name: string }
  | { readonly route: 'layer'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'spans'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'span'; readonly name: string; readonly digest: Digest; readonly spanId: number }
  | { readonly route: 'tar'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'files'; readonly name: string; readonly digest: Digest }
  | { readonly route: 'file'; readonly name: string; readonly digest: Digest; readonly filePath: RawText }
  | { readonly route: 'image'; readonly name: string; readonly reference: Reference }
  | { readonly route: 'imageStarts'; readonly name: string; readonly reference: Reference }
  | { readonly route: 'imageProfile'; readonly name: string; readonly reference: Reference }
  | {
      readonly route: 'imageFile';
      readonly name: string;
      readonly reference: Reference;
      readonly filePath: RawText;
    };

/** Name of a route; a label of the metrics of requests. */
export type RouteName = RegistryPath['route'];

const PREFIX = '/v2/';
const CATALOG = '/v2/_catalog';
const EXTENSION = '/_soci/';

/**
 * Parse the raw, still percent-encoded path of a URL. A router cannot: repository names contain slashes, and
 * after decoding `%2F` looks like `/`.
 *
 * Routes below a repository also work without `/v2`: the snapshotter replaces it by the path of a mirror's
 * address, so that `host = "http://proxy:5000/hub"` requests `/hub/library/nginx/blobs/…` (soci-snapshotter
 * `service/resolver/registry.go`).
 * @throws SpandrelError ROUTE_UNKNOWN, DIGEST_INVALID, TAG_INVALID, MANIFEST_UNKNOWN, QUERY_INVALID
 */
export function parseRegistryPath(rawPath: string): RegistryPath {
  if (rawPath === '/') return { route: 'root' };
  if (rawPath === PREFIX || rawPath === '/v2') return { route: 'base' };
  if (rawPath === CATALOG) return { route: 'catalog' };
  if (!rawPath.startsWith('/')) throw unknownRoute(rawPath);
  const path = rawPath.slice(rawPath.startsWith(PREFIX) ? PREFIX.length : 1);
  const extension = path.indexOf(EXTENSION);
  if (extension > 0)
    return parseExtension(path.slice(0, extension), path.slice(extension + EXTENSION.length), rawPath);
  return parseDistribution(path, rawPath);
}

function parseDistribution(path: string, rawPath: string): RegistryPath {
  const segments = path.split('/');
  const last = decodeText(segments.pop() ?? '');
  const verb = segments.pop();
  const name = decodeText(segments.join('/'));
  if (name === '' || last === '') throw unknownRoute(rawPath);
  switch (verb) {
    case 'manifests':
      return { route: 'manifest', name, reference: parseManifestReference(last) };
    case 'blobs':
      return { route: 'blob', name, digest: parseDigest(last) };
    case 'referrers':
      return { route: 'referrers', name, digest: parseDigest(last) };
    case 'tags':
      if (last === 'list') return { route: 'tags', name };
      throw unknownRoute(rawPath);
    default:
      throw unknownRoute(rawPath);
  }
}

/** An invalid tag is a manifest that does not exist: 404 (distribution spec, "Pulling manifests"). */
function parseManifestReference(text: string): Reference {
  try {
    return parseReference(text);
  } catch (error) {
    if (!isSpandrelError(error, 'TAG_INVALID')) throw error;
    throw new SpandrelError('MANIFEST_UNKNOWN', error.message, { cause: error });
  }
}

function parseExtension(rawName: string, rest: string, rawPath: string): RegistryPath {
  const name = decodeText(rawName);
  const [kind, rawTarget = '', what, ...tail] = rest.split('/');
  const target = decodeText(rawTarget);
  const filePath = percentDecode(tail.join('/'));
  if (kind === 'layers') {
    const digest = parseDigest(target);
    if (what === undefined) return { route: 'layer', name, digest };
    if (what === 'tar' && tail.length === 0) return { route: 'tar', name, digest };
    if (what === 'spans' && tail.length === 0) return { route: 'spans', name, digest };
    if (what === 'spans' && tail.length === 1)
      return { route: 'span', name, digest, spanId: parseSpanId(filePath) };
    if (what === 'files' && tail.length === 0) return { route: 'files', name, digest };
    if (what === 'files') return { route: 'file', name, digest, filePath };
  }
  if (kind === 'images' && target !== '') {
    const reference = parseReference(target);
    if (what === undefined) return { route: 'image', name, reference };
    if (what === 'starts' && tail.length === 0) return { route: 'imageStarts', name, reference };
    if (what === 'profile' && tail.length === 0) return { route: 'imageProfile', name, reference };
    if (what === 'files') return { route: 'imageFile', name, reference, filePath };
  }
  throw unknownRoute(rawPath);
}

function parseSpanId(text: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new SpandrelError('SPAN_UNKNOWN', `not the number of a span: ${text.slice(0, 40)}`);
  return Number(text);
}

function decodeText(text: string): string {
  return encodeRawText(percentDecode(text)).toString('utf8');
}

function unknownRoute(rawPath: string): SpandrelError {
  return new SpandrelError('ROUTE_UNKNOWN', `no such route: ${rawPath.slice(0, 300)}`);
}
