import { type ByteCache, sealedOnly } from '../../cache/byte-cache.ts';
import { type SharedNote, SharedNotes } from '../../cache/shared-notes.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';

const KEY_PREFIX = 'tag:1:';
/** Codes of a reference that the upstream does not have. */
const ABSENCES = ['MANIFEST_UNKNOWN', 'NAME_UNKNOWN'] as const;

/** What an upstream said to a replica: the digest of a tag, or that there is no such manifest. */
export type SharedAnswer = { readonly ageMs: number } & (
  { readonly digest: Digest } | { readonly absence: SpandrelError }
);

/** The upstreams' latest answers, which replicas share for as long as each would keep its own. */
export class SharedTags {
  readonly #notes: SharedNotes;

  /** @param shared used only if it is sealed: else anybody could move a tag */
  constructor(shared: ByteCache | undefined) {
    this.#notes = new SharedNotes(sealedOnly(shared), KEY_PREFIX);
  }

  /** @param key of an upstream's repository and reference */
  async find(key: string): Promise<SharedAnswer | undefined> {
    const note = await this.#notes.find(key);
    return note && parseAnswer(note);
  }

  noteTag(key: string, digest: Digest): void {
    void this.#notes.note(key, { digest });
  }

  noteAbsence(key: string, { code, message }: SpandrelError): void {
    void this.#notes.note(key, { code, message });
  }
}

function parseAnswer({ fields: { digest, code, message }, ageMs }: SharedNote): SharedAnswer | undefined {
  if (typeof digest === 'string' && isDigest(digest)) return { ageMs, digest };
  const known = ABSENCES.find((absence) => absence === code);
  if (known === undefined || typeof message !== 'string') return undefined;
  return { ageMs, absence: new SpandrelError(known, message) };
}

/** The upstream's answer that it has no such manifest; other errors say nothing that lasts. */
export function isAbsence(error: unknown): error is SpandrelError {
  return isSpandrelError(error, ...ABSENCES);
}
