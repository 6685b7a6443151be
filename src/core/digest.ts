import { createHash, type Hash, webcrypto } from 'node:crypto';

import { SpandrelError } from './errors.ts';

declare const DIGEST: unique symbol;

/** A validated digest `algorithm:hex`. Only {@link parseDigest} and the functions below make one. */
export type Digest = string & { readonly [DIGEST]: true };

const HEX_DIGITS = { sha256: 64, sha512: 128 } as const;

/** The algorithms registered in the OCI image spec. */
export type DigestAlgorithm = keyof typeof HEX_DIGITS;

const FORM = /^(sha256|sha512):([0-9a-f]+)$/;

/**
 * Parses a digest.
 * @throws SpandrelError DIGEST_INVALID
 */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new SpandrelError('DIGEST_INVALID', `not a sha256 or sha512 digest: ${text.slice(0, 160)}`);
  }
  return text;
}

/** True if `text` is a well-formed digest of a known algorithm. */
export function isDigest(text: string): text is Digest {
  const match = FORM.exec(text);
  return match !== null && match[2]?.length === HEX_DIGITS[match[1] as DigestAlgorithm];
}

/** Digest of a small value. Synchronous: only for values below about 100 KiB on the event loop. */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

/**
 * Digest of a value of any size, computed off the event loop. The caller must not change `bytes` meanwhile.
 */
export async function digestOfLarge(
  bytes: Uint8Array<ArrayBuffer>,
  algorithm: DigestAlgorithm = 'sha256',
): Promise<Digest> {
  const hash = await webcrypto.subtle.digest(algorithm === 'sha256' ? 'SHA-256' : 'SHA-512', bytes);
  return `${algorithm}:${Buffer.from(hash).toString('hex')}` as Digest;
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(':')) as DigestAlgorithm;
}

/** The part after the colon, lower-case. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** Finishes a running hash and returns its digest. The hash cannot be used afterwards. */
export function finishDigest(hash: Hash, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest;
}
