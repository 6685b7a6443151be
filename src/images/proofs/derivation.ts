import { type Digest, isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';

/** What something of ours was made of: a repository that has all of it may have that too. */
export interface Derivation {
  /** The manifest or index of the image that it can be made of again. */
  readonly image: Digest;
  /** Manifests whose text is in it. */
  readonly manifests: readonly Digest[];
  /** Layers whose bytes have gone into it. */
  readonly layers: readonly Digest[];
}

/** The derivation out of a JSON document; nothing if it has none. */
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
