import { type Digest, isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';

/** What a derived document or blob was made from. A repository that has all of it may have the result. */
export interface Derivation {
  /** The image manifest or index that it can be made from again. */
  readonly image: Digest;
  /** Manifests whose text it contains. */
  readonly manifests: readonly Digest[];
  /** Layers whose bytes went into it. */
  readonly layers: readonly Digest[];
}

/** The derivation in a JSON document; `undefined` if it has none. */
export function parseDerivation(json: unknown): Derivation | undefined {
  if (!isJsonObject(json)) return undefined;
  const { image, manifests, layers } = json;
  if (typeof image !== 'string' || !isDigest(image) || !isDigests(manifests) || !isDigests(layers))
    return undefined;
  return { image, manifests, layers };
}

export function isSameDerivation(a: Derivation | undefined, b: Derivation | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.image === b.image && isSameList(a.manifests, b.manifests) && isSameList(a.layers, b.layers);
}

function isSameList(a: readonly Digest[], b: readonly Digest[]): boolean {
  return a === b || (a.length === b.length && a.every((digest, place) => digest === b[place]));
}

function isDigests(value: unknown): value is readonly Digest[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string' && isDigest(item));
}
