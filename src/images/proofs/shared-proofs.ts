import { type NoteRedis, sealedNotes, SharedNotes } from '../../cache/shared-notes.ts';
import { steadyNow } from '../../core/steady-now.ts';
import type { LastingProofs } from './lasting-proofs.ts';

/** A blob or manifest of a repository. */
export interface Provable {
  /** As {@link targetKey}. */
  readonly repository: string;
  readonly digest: string;
}

export interface SharedProofsDeps {
  /** Used only if it is sealed: else anybody could have written a proof. */
  readonly redis: NoteRedis | undefined;
  /** How long a proof is valid. */
  readonly lifetimeMs: number;
  readonly lasting: LastingProofs | undefined;
}

const PREFIX = 'proof:1:';

/** When an upstream last proved what to any replica. */
export class SharedProofs {
  readonly #notes: SharedNotes;
  readonly #lasting: LastingProofs | undefined;

  constructor({ redis, lifetimeMs, lasting }: SharedProofsDeps) {
    this.#notes = new SharedNotes(sealedNotes(redis), { prefix: PREFIX, lifetimeMs });
    this.#lasting = lasting;
  }

  /**
   * When `proven` was last proven, as {@link steadyNow}: by Redis if that is less than the lifetime ago, else
   * however long ago.
   */
  async find(proven: Provable, nowMs = steadyNow()): Promise<number | undefined> {
    const ageMs = (await this.#notes.find(nameOf(proven)))?.ageMs;
    if (ageMs !== undefined) return nowMs - Math.ceil(ageMs);
    return this.#lasting?.find(proven.repository, proven.digest);
  }

  /** The upstream has just proven it. */
  note(proven: Provable, provenAtMs: number): void {
    void this.#notes.note(nameOf(proven), {});
    this.#lasting?.note(proven.repository, proven.digest, provenAtMs);
  }

  /** The upstream refused: other replicas ask it again when their own proofs expire. */
  forget(proven: Provable): void {
    void this.#notes.forget(nameOf(proven));
    this.#lasting?.forget(proven.repository, proven.digest);
  }
}

/** Of a proof, in the table and in Redis. */
export function nameOf({ repository, digest }: Provable): string {
  return `${repository} ${digest}`;
}
