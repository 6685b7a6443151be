import { isJsonObject } from '../core/json-object.ts';
import { isIndexType, isManifestType, MEDIA_TYPES } from '../core/media-types.ts';
import { JsonTooLarge, parseJson } from '../core/parse-json.ts';

/** Of an application: RFC 6838, section 4.2. */
const MEDIA_TYPE = /^application\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;

/**
 * What the document in `bytes` is: its own `mediaType`, else the `Content-Type` that it came with where its fields agree, else what its
 * fields say. Upstreams that keep manifests as plain files call them `text/plain` or `application/octet-stream`. `undefined` if it is
 * no manifest: a page of HTML, an empty body, JSON of something else. A document that is too large to parse is what its `Content-Type` says.
 */
export function identifyManifest(bytes: Uint8Array, contentType: string | undefined): string | undefined {
  const document = parseDocument(bytes);
  if (document === 'too-large') return typeIfManifest(plainType(contentType));
  const shape = document === undefined ? undefined : shapeOf(document);
  if (document === undefined || shape === undefined) return undefined;
  const own = document['mediaType'];
  if (typeof own === 'string' && MEDIA_TYPE.test(own.toLowerCase())) return own;
  const said = plainType(contentType);
  return fits(said, shape) ? said : shape;
}

/** `Content-Type` without parameters, if it is one of an application. */
export function plainType(contentType: string | undefined): string {
  const said = contentType?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  return MEDIA_TYPE.test(said) ? said : MEDIA_TYPES.octetStream;
}

/** What a body is that is no manifest, in words; `undefined` for what may be a damaged one. */
export function describePage(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return 'an empty body';
  return textOf(bytes.subarray(0, 512)).trimStart().startsWith('<') ? 'a page of HTML or XML' : undefined;
}

function parseDocument(bytes: Uint8Array): Record<string, unknown> | 'too-large' | undefined {
  try {
    const value = parseJson(bytes);
    return isJsonObject(value) ? value : undefined;
  } catch (error) {
    // What is no JSON is no manifest.
    return error instanceof JsonTooLarge ? 'too-large' : undefined;
  }
}

function typeIfManifest(type: string): string | undefined {
  return isIndexType(type) || isManifestType(type) ? type : undefined;
}

/** The media type of a document with such fields; `undefined` if no manifest has them. */
function shapeOf(document: Record<string, unknown>): string | undefined {
  if (Array.isArray(document['manifests'])) return MEDIA_TYPES.ociIndex;
  if (Array.isArray(document['fsLayers']))
    return Array.isArray(document['signatures']) ? MEDIA_TYPES.dockerSigned1 : MEDIA_TYPES.dockerManifest1;
  const { config } = document;
  const isConfig = isJsonObject(config) && typeof config['digest'] === 'string';
  if (isConfig || Array.isArray(document['layers']))
    return isConfig && config['mediaType'] === MEDIA_TYPES.dockerConfig
      ? MEDIA_TYPES.dockerManifest
      : MEDIA_TYPES.ociManifest;
  // Manifests of other kinds, which clients know and we need not: they say what they are.
  const own = document['mediaType'];
  const isTyped = typeof own === 'string' && own.endsWith('+json');
  return isTyped || typeof document['schemaVersion'] === 'number' ? MEDIA_TYPES.octetStream : undefined;
}

/** True if `said` is a type of manifest that may have such fields. */
function fits(said: string, shape: string): boolean {
  if (!said.startsWith('application/vnd.')) return false;
  const isOfOurKinds = [said, shape].every((type) => isIndexType(type) || isManifestType(type));
  return !isOfOurKinds || isIndexType(said) === isIndexType(shape);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}
