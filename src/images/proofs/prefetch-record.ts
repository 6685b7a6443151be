import { type Digest, digestOf, isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { PrefetchArtifact } from '../../soci/soci-index.ts';

/** What the SOCI index of an image lists: layers as the registry has them, or their tars. */
export type SociLayers = 'layer' | 'tar';

/** Which image it is, in which of its two SOCI indexes. */
export interface PrefetchKey {
  /** The image manifest, for one platform. */
  readonly image: Digest;
  readonly kind: SociLayers;
}

export interface RecordedPrefetch extends PrefetchArtifact {
  /** The registry's layer whose files it is about. */
  readonly original: Digest;
}

/** The prefetch artifacts that the SOCI index of an image lists; empty if it lists none. */
export interface PrefetchRecord extends PrefetchKey {
  readonly artifacts: readonly RecordedPrefetch[];
}

const VERSION = 1;

/** The record for a file of records, or for other replicas. */
export function encodePrefetchRecord({ image, kind, artifacts }: PrefetchRecord): string {
  const texts = artifacts.map(({ layerDigest, original, bytes }) => ({
    layer: layerDigest,
    original,
    text: bytes.toString(),
  }));
  return JSON.stringify({ version: VERSION, image, kind, artifacts: texts });
}

/** Reverses {@link encodePrefetchRecord}; `undefined` if it is damaged or of another version. */
export function decodePrefetchRecord(text: string): PrefetchRecord | undefined {
  const json = tryParseJson(text);
  if (!isJsonObject(json) || json['version'] !== VERSION) return undefined;
  const { image, kind, artifacts } = json;
  if (!isDigestText(image) || (kind !== 'layer' && kind !== 'tar') || !Array.isArray(artifacts))
    return undefined;
  const decoded = artifacts.flatMap((value) => decodeArtifact(value) ?? []);
  return decoded.length === artifacts.length ? { image, kind, artifacts: decoded } : undefined;
}

function decodeArtifact(value: unknown): RecordedPrefetch | undefined {
  if (!isJsonObject(value)) return undefined;
  const { layer, original, text } = value;
  if (!isDigestText(layer) || !isDigestText(original) || typeof text !== 'string') return undefined;
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes), layerDigest: layer, original };
}

function isDigestText(value: unknown): value is Digest {
  return typeof value === 'string' && isDigest(value);
}
