import { createHash, type Hash, webcrypto } from 'node:crypto';

import { SpandrelError } from './errors.ts';

declare const DIGEST: unique symbol;

/** A checked digest string `algorithm:hex`; made by {@link parseDigest} and {@link digestOf} only. */
export type Digest = string & { readonly [DIGEST]: true };

const HEX_DIGITS = { sha256: 64, sha512: 128 } as const;

/** The registered algorithms of the OCI image spec that registries use. */
export type DigestAlgorithm = keyof typeof HEX_DIGITS;

const FORM = /^(sha256|sha512):([0-9a-f]+)$/;

/**
 * The digest that `text` spells.
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

/** Digest of a small value. Synchronous: not for bodies above some 100 KiB on the event loop. */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

/** Digest of a value of any size, computed off the event loop. `bytes` must not change meanwhile. */
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

/** The digest that a running hash has come to; the hash cannot be used afterwards. */
export function finishDigest(hash: Hash, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest;
}
