import { isJsonObject, JsonTooLarge, parseJson } from '../../core/json/parse-json.ts';
import { scanJson } from '../../core/json/scan-json.ts';
import { inOwnTurn, SMALL_DOCUMENT_BYTES } from '../../core/work/in-own-turn.ts';
import { type ManifestType, manifestTypeOf, MEDIA_TYPES } from '../../core/media-types.ts';

/** RFC 6838, section 4.2, top-level type `application`. */
const MEDIA_TYPE = /^application\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;

/**
 * The type of a manifest: its own `mediaType`, else derived from its fields. `undefined` if it is not a
 * manifest: an HTML page, an empty body, other JSON. The `Content-Type` of the response is ignored: other
 * upstreams may have the same bytes. Of a document that is too large to parse, only `mediaType` is read.
 */
export async function identifyManifest(bytes: Uint8Array): Promise<ManifestType | undefined> {
  const identify = (): ManifestType | undefined => identifyNow(bytes);
  return bytes.byteLength <= SMALL_DOCUMENT_BYTES ? identify() : inOwnTurn(identify);
}

function identifyNow(bytes: Uint8Array): ManifestType | undefined {
  const document = parseDocument(bytes);
  if (document === 'too-large') return manifestTypeOf(findOwnType(bytes) ?? '');
  const shape = document === undefined ? undefined : shapeOf(document);
  if (document === undefined || shape === undefined) return undefined;
  const own = document['mediaType'];
  return typeof own === 'string' && MEDIA_TYPE.test(own.toLowerCase()) ? manifestTypeOf(own) : shape;
}

/** Describes a body that is not a manifest; `undefined` if it may be a damaged one. */
export function describePage(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return 'an empty body';
  return textOf(bytes.subarray(0, 512)).trimStart().startsWith('<') ? 'a page of HTML or XML' : undefined;
}

function parseDocument(bytes: Uint8Array): Record<string, unknown> | 'too-large' | undefined {
  try {
    const value = parseJson(bytes);
    return isJsonObject(value) ? value : undefined;
  } catch (error) {
    // Text that is not JSON is not a manifest.
    return error instanceof JsonTooLarge ? 'too-large' : undefined;
  }
}

/** The last `mediaType` at the top level of a JSON document. */
function findOwnType(bytes: Uint8Array): string | undefined {
  let found: string | undefined;
  let isValue = false;
  scanJson(bytes, 0, (token, depth, start, end) => {
    if (token === 'comma') isValue = false;
    if (token !== 'string') return;
    const text = depth === 1 ? textOf(bytes.subarray(start + 1, end - 1)) : '';
    if (isValue) found = text;
    isValue = !isValue && text === 'mediaType';
  });
  return found;
}

/** The media type that the fields of a document imply; `undefined` if it is not a manifest. */
function shapeOf(document: Record<string, unknown>): ManifestType | undefined {
  if (Array.isArray(document['manifests'])) return MEDIA_TYPES.ociIndex;
  if (Array.isArray(document['fsLayers']))
    return Array.isArray(document['signatures']) ? MEDIA_TYPES.dockerSigned1 : MEDIA_TYPES.dockerManifest1;
  const { config } = document;
  const isConfig = isJsonObject(config) && typeof config['digest'] === 'string';
  if (isConfig || Array.isArray(document['layers']))
    return isConfig && config['mediaType'] === MEDIA_TYPES.dockerConfig
      ? MEDIA_TYPES.dockerManifest
      : MEDIA_TYPES.ociManifest;
  // Manifests of other kinds are passed on; they must name their type or version.
  const own = document['mediaType'];
  const isTyped = typeof own === 'string' && own.endsWith('+json');
  return isTyped || typeof document['schemaVersion'] === 'number' ? MEDIA_TYPES.octetStream : undefined;
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}
