import { type Digest, digestHex, digestOf } from '../../core/digest.ts';

declare const PARTIAL: unique symbol;

/** What has come of a blob from one upstream. */
type PartialKey = string & { readonly [PARTIAL]: true };

const TAG_DIGITS = 16;

/**
 * By what the store knows what it holds: a whole blob by its digest, since its bytes are proven, and what is not whole by its digest and
 * its upstream, since nobody else is to rely on that one's bytes.
 */
export type StoreKey = Digest | PartialKey;

/** @param upstream name; not given where there is only one */
export function partialKey(digest: Digest, upstream: string | undefined): StoreKey {
  return upstream === undefined
    ? digest
    : taggedKey(digest, digestHex(digestOf(upstream)).slice(0, TAG_DIGITS));
}

/** @param tag as {@link tagOfKey}; empty where there is only one upstream */
export function taggedKey(digest: Digest, tag: string): StoreKey {
  return tag === '' ? digest : (`${digest} ${tag}` as PartialKey);
}

/** Hex digits that stand for the upstream in names of files; empty for a whole blob, or where there is only one upstream. */
export function tagOfKey(key: StoreKey): string {
  return key.split(' ', 2)[1] ?? '';
}

export function digestOfKey(key: StoreKey): Digest {
  return key.split(' ', 1)[0] as Digest;
}
