import { type Digest, digestHex, digestOf } from '../../core/digest.ts';

declare const PARTIAL: unique symbol;

/** A partial blob of one upstream. */
type PartialKey = string & { readonly [PARTIAL]: true };

const TAG_DIGITS = 16;

/**
 * Key of content in the store. A whole blob has its digest as the key, because its bytes are verified; a
 * partial one has its digest and its upstream, because no other upstream's repositories may rely on its
 * bytes.
 */
export type StoreKey = Digest | PartialKey;

/** @param upstream name; `undefined` if there is only one */
export function partialKey(digest: Digest, upstream: string | undefined): StoreKey {
  return upstream === undefined
    ? digest
    : taggedKey(digest, digestHex(digestOf(upstream)).slice(0, TAG_DIGITS));
}

/** @param tag as {@link tagOfKey}; empty if there is only one upstream */
export function taggedKey(digest: Digest, tag: string): StoreKey {
  return tag === '' ? digest : (`${digest} ${tag}` as PartialKey);
}

/**
 * Hex digits that stand for the upstream in file names; empty for a whole blob, or if there is only one
 * upstream.
 */
export function tagOfKey(key: StoreKey): string {
  return key.split(' ', 2)[1] ?? '';
}

export function digestOfKey(key: StoreKey): Digest {
  return key.split(' ', 1)[0] as Digest;
}
