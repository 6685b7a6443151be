import { type ByteCache, sealedOnly } from '../../cache/byte-cache.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';

const KEY_PREFIX = 'proof:1:';

/** When an upstream last proved what to any replica. */
export class SharedProofs {
  readonly #shared: ByteCache | undefined;

  /** @param shared used only if it is sealed: else anybody could have written a proof */
  constructor(shared: ByteCache | undefined) {
    this.#shared = sealedOnly(shared);
  }

  /** When `name` was proven, as {@link steadyNow}, if that is at most `lifetimeMs` ago. */
  async find(name: string, lifetimeMs: number, nowMs = steadyNow()): Promise<number | undefined> {
    const hit = await this.#shared?.get(KEY_PREFIX + name);
    const provenAtMs = Number(hit && Buffer.from(hit.bytes).toString('latin1'));
    if (!Number.isSafeInteger(provenAtMs)) return undefined;
    const ageMs = sharedAgeMs(provenAtMs, nowMs);
    return ageMs < lifetimeMs ? nowMs - ageMs : undefined;
  }

  note(name: string, provenAtMs: number): void {
    void this.#shared?.set(KEY_PREFIX + name, Buffer.from(String(provenAtMs)));
  }

  /** The upstream refused: other replicas ask it again when their own proofs expire. */
  forget(name: string): void {
    void this.#shared?.delete(KEY_PREFIX + name);
  }
}
