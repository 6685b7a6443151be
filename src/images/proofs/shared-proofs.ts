import { type ByteCache, sealedOnly } from '../../cache/byte-cache.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';
import type { LastingProofs } from './lasting-proofs.ts';

/** A blob or manifest of a repository. */
export interface Provable {
  /** As {@link targetKey}. */
  readonly repository: string;
  readonly digest: string;
}

export interface SharedProofsDeps {
  /** Used only if it is sealed: else anybody could have written a proof. */
  readonly redis: ByteCache | undefined;
  readonly lasting: LastingProofs | undefined;
}

const KEY_PREFIX = 'proof:1:';

/** When an upstream last proved what to any replica. */
export class SharedProofs {
  readonly #redis: ByteCache | undefined;
  readonly #lasting: LastingProofs | undefined;

  constructor({ redis, lasting }: SharedProofsDeps) {
    this.#redis = sealedOnly(redis);
    this.#lasting = lasting;
  }

  /**
   * When `proven` was last proven, as {@link steadyNow}: by Redis if that is at most `lifetimeMs` ago, else
   * however long ago.
   */
  async find(proven: Provable, lifetimeMs: number, nowMs = steadyNow()): Promise<number | undefined> {
    const hit = await this.#redis?.get(keyOf(proven));
    const provenAtMs = Number(hit && Buffer.from(hit.bytes).toString('latin1'));
    const ageMs = Number.isSafeInteger(provenAtMs) ? sharedAgeMs(provenAtMs, nowMs) : Infinity;
    if (ageMs < lifetimeMs) return nowMs - ageMs;
    return this.#lasting?.find(proven.repository, proven.digest);
  }

  note(proven: Provable, provenAtMs: number): void {
    void this.#redis?.set(keyOf(proven), Buffer.from(String(provenAtMs)));
    this.#lasting?.note(proven.repository, proven.digest, provenAtMs);
  }

  /** The upstream refused: other replicas ask it again when their own proofs expire. */
  forget(proven: Provable): void {
    void this.#redis?.delete(keyOf(proven));
    this.#lasting?.forget(proven.repository, proven.digest);
  }
}

function keyOf({ repository, digest }: Provable): string {
  return `${KEY_PREFIX}${repository} ${digest}`;
}
