import { type NoteLook, type NoteRedis, sealedNotes, SharedNotes } from '../../cache/shared-notes.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';

const PREFIX = 'tag:1:';
/** Codes of a reference that the upstream does not have. */
const ABSENCES = ['MANIFEST_UNKNOWN', 'NAME_UNKNOWN'] as const;

/** What an upstream says about a reference: the digest, or that there is no such manifest. */
export type Said = { readonly digest: Digest } | { readonly absence: SpandrelError };

/** What an upstream said to a replica. */
export interface SharedAnswer {
  readonly said: Said;
  /** When it was noted, as {@link SharedTagLook.nowUs}. */
  readonly atUs: number;
  readonly ageMs: number;
}

export interface SharedTagLook {
  /** By a clock that all replicas share: the time of a question that is asked after this look. */
  readonly nowUs: number;
  readonly answer: SharedAnswer | undefined;
}

export interface SharedTagsOptions {
  /** How long a missing manifest is remembered. */
  readonly negativeAgeMs: number;
}

/** The upstreams' latest answers, which replicas share. */
export class SharedTags {
  readonly #tags: SharedNotes;
  readonly #absences: SharedNotes;

  /** @param redis used only if it is sealed: else anybody could move a tag */
  constructor(redis: NoteRedis | undefined, { negativeAgeMs }: SharedTagsOptions) {
    const sealed = sealedNotes(redis);
    this.#tags = new SharedNotes(sealed, { prefix: PREFIX });
    this.#absences = new SharedNotes(sealed, { prefix: PREFIX, lifetimeMs: negativeAgeMs });
  }

  /** Whether there may be others to ask. */
  get isShared(): boolean {
    return this.#tags.isShared;
  }

  /**
   * The latest answer of any age. `undefined` if Redis is not available.
   * @param key of an upstream's repository and reference
   */
  async look(key: string): Promise<SharedTagLook | undefined> {
    return parseLook(await this.#tags.look(key));
  }

  /**
   * Notes an answer, unless another one was noted at `askedUs` or later.
   * @returns with that one; `undefined` if Redis is not available
   */
  async note(key: string, said: Said, askedUs: number): Promise<SharedTagLook | undefined> {
    return parseLook(await this.#notesOf(said).note(key, fieldsOf(said), { afterUs: askedUs }));
  }

  /** Notes again what was noted at `atUs` and is lost, unless something was noted since. */
  async restore(key: string, said: Said, atUs: number): Promise<void> {
    await this.#notesOf(said).note(key, fieldsOf(said), { atUs, afterUs: atUs });
  }

  #notesOf(said: Said): SharedNotes {
    return 'digest' in said ? this.#tags : this.#absences;
  }
}

function fieldsOf(said: Said): Record<string, string> {
  if ('digest' in said) return { digest: said.digest };
  const { code, message } = said.absence;
  return { code, message };
}

function parseLook(look: NoteLook | undefined): SharedTagLook | undefined {
  if (look === undefined) return undefined;
  const { nowUs, note } = look;
  const said = note && parseSaid(note.fields);
  return { nowUs, answer: said && { said, atUs: note.atUs, ageMs: note.ageMs } };
}

function parseSaid({ digest, code, message }: Readonly<Record<string, unknown>>): Said | undefined {
  if (typeof digest === 'string' && isDigest(digest)) return { digest };
  const known = ABSENCES.find((absence) => absence === code);
  if (known === undefined || typeof message !== 'string') return undefined;
  return { absence: new SpandrelError(known, message) };
}

/** The upstream's answer that it has no such manifest; other errors say nothing that lasts. */
export function isAbsence(error: unknown): error is SpandrelError {
  return isSpandrelError(error, ...ABSENCES);
}
