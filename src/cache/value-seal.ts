import { createHmac, webcrypto } from 'node:crypto';

import type { Secret } from '../core/secret.ts';

const SEAL_BYTES = 32;
const ALGORITHM = { name: 'HMAC', hash: 'SHA-256' } as const;

/**
 * Seals values with a key that replicas share (HMAC-SHA-256). It detects values that were written, changed,
 * or moved to another name without the key. It does not detect an older value of the same name. Hashing runs
 * in threads.
 */
export class ValueSeal {
  readonly #key: Secret;

  constructor(key: Secret) {
    this.#key = key;
  }

  /** The value after its seal, in a new buffer. */
  async close(name: string, bytes: Uint8Array): Promise<Buffer> {
    const seal = await webcrypto.subtle.sign(ALGORITHM, await this.#keyOf(name, 'sign'), ownBytes(bytes));
    return Buffer.concat([Buffer.from(seal), bytes]);
  }

  /** A view of the value, or `undefined` if its seal is wrong. */
  async open(name: string, sealed: Uint8Array): Promise<Uint8Array | undefined> {
    if (sealed.byteLength < SEAL_BYTES) return undefined;
    const [seal, bytes] = [sealed.subarray(0, SEAL_BYTES), sealed.subarray(SEAL_BYTES)];
    const key = await this.#keyOf(name, 'verify');
    const isOurs = await webcrypto.subtle.verify(ALGORITHM, key, ownBytes(seal), ownBytes(bytes));
    return isOurs ? bytes : undefined;
  }

  /** Each name has a key of its own. */
  #keyOf(name: string, use: 'sign' | 'verify'): Promise<webcrypto.CryptoKey> {
    const derived = createHmac('sha256', this.#key.reveal()).update(name).digest();
    return webcrypto.subtle.importKey('raw', ownBytes(derived), ALGORITHM, false, [use]);
  }
}

/** `webcrypto` copies the bytes, but its type asks for an `ArrayBuffer`. */
function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
