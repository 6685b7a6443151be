import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { identifyManifest } from '../../upstream/manifests/identify-manifest.ts';
import { type Derivation, parseDerivation } from './derivation.ts';

/** The layer that a zTOC was made from. */
export type LayerOrigin =
  /** Without `spanBytes`, the zTOC is that of the layer's index. */
  | { readonly kind: 'layer'; readonly layer: Digest; readonly spanBytes?: number }
  /** The zTOC is over its tar. */
  | { readonly kind: 'tar'; readonly layer: Digest; readonly spanBytes: number };

/** What a derived document or zTOC was made from, with enough to make it again. */
export type Origin =
  | LayerOrigin
  | {
      readonly kind: 'image';
      readonly derivation: Derivation;
      readonly document: ManifestDocument;
    };

export interface OriginsDeps {
  /** Of this replica, across restarts. */
  readonly files: DigestFiles;
  /** Shared with replicas. */
  readonly shared: ByteCache | undefined;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

const MAX_REMEMBERED = 10_000;
/** Origins in use are published again, as the shared tier may have lost them. */
const PUBLISH_AGAIN_MS = 10_000;
const KEY_PREFIX = 'origin:2:';

/**
 * The origins of documents and zTOCs that the proxy makes, by digest. An origin is published before its
 * digest is named to any client, so that every replica can serve the digest to every repository that has the
 * same image or layer.
 */
export class Origins {
  readonly #deps: OriginsDeps;
  readonly #now: () => number;
  readonly #published = new BoundedMap<{ readonly atMs: number }>({ maxEntries: MAX_REMEMBERED });

  constructor(deps: OriginsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
  }

  /**
   * Publishes where `digest` comes from; ignores failures. `read` is not called if that happened recently.
   */
  async publish(digest: Digest, read: () => Origin): Promise<void> {
    const published = this.#published.get(digest);
    if (published !== undefined && this.#now() - published.atMs < PUBLISH_AGAIN_MS) return;
    const { files, shared } = this.#deps;
    const bytes = encode(read());
    await Promise.all([
      shared?.set(KEY_PREFIX + digest, bytes),
      published === undefined ? files.tryWrite(digest, bytes) : undefined,
    ]);
    this.#published.set(digest, { atMs: this.#now() });
  }

  /**
   * As published by this replica or another one; `undefined` if it is damaged.
   * @throws SpandrelError STORE_FAILED if it may be in the store, which cannot be read
   */
  async find(digest: Digest): Promise<Origin | undefined> {
    const stored = this.#findStored(digest);
    const found = await stored.catch(() => this.#findShared(digest));
    return found ?? (await stored) ?? (await this.#findShared(digest));
  }

  async #findStored(digest: Digest): Promise<Origin | undefined> {
    const { files } = this.#deps;
    const bytes = await files.read(digest);
    const origin = bytes && (await decode(bytes, digest));
    if (bytes !== undefined && origin === undefined) await files.condemn(digest);
    return origin;
  }

  async #findShared(digest: Digest): Promise<Origin | undefined> {
    const { shared } = this.#deps;
    const hit = await shared?.get(KEY_PREFIX + digest);
    const origin = hit && (await decode(hit.bytes, digest));
    if (hit !== undefined && origin === undefined) await shared?.delete(KEY_PREFIX + digest);
    return origin;
  }
}

function encode(origin: Origin): Buffer {
  if (origin.kind !== 'image') {
    const { layer } = origin;
    return Buffer.from(
      JSON.stringify({ layer, [origin.kind === 'tar' ? 'spanBytes' : 'layerSpanBytes']: origin.spanBytes }),
    );
  }
  const { mediaType, bytes } = origin.document;
  return Buffer.from(
    JSON.stringify({ grounds: origin.derivation, mediaType, document: bytes.toString('base64') }),
  );
}

/** `undefined` if it is not the origin of `digest`: the shared tier is not trusted. */
async function decode(bytes: Uint8Array, digest: Digest): Promise<Origin | undefined> {
  const json = tryParseJson(Buffer.from(bytes).toString());
  if (!isJsonObject(json)) return undefined;
  const { layer, spanBytes, layerSpanBytes, mediaType, document } = json;
  const derivation = parseDerivation(json['grounds']);
  if (isDigestText(layer)) {
    if (typeof spanBytes === 'number') return { kind: 'tar', layer, spanBytes };
    return typeof layerSpanBytes === 'number'
      ? { kind: 'layer', layer, spanBytes: layerSpanBytes }
      : { kind: 'layer', layer };
  }
  if (derivation === undefined || typeof mediaType !== 'string' || typeof document !== 'string')
    return undefined;
  const content = Buffer.from(document, 'base64');
  const found = await identifyManifest(content);
  const isRight = digestOf(content, digestAlgorithm(digest)) === digest;
  return isRight && found !== undefined && found === mediaType
    ? { kind: 'image', derivation, document: { mediaType: found, digest, bytes: content } }
    : undefined;
}

function isDigestText(value: unknown): value is Digest {
  return typeof value === 'string' && isDigest(value);
}
