import type { ByteCache } from '../../cache/byte-cache.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';

const KEY_PREFIX = 'tag:1:';
/** Codes of a reference that the upstream does not have. */
const ABSENCES = ['MANIFEST_UNKNOWN', 'NAME_UNKNOWN'] as const;

/** What an upstream said to a replica: the digest of a tag, or that there is no such manifest. */
export type SharedAnswer = { readonly ageMs: number } & (
  { readonly digest: Digest } | { readonly absence: SpandrelError }
);

/** The upstreams' latest answers, which replicas share for as long as each would keep its own. */
export class SharedTags {
  readonly #shared: ByteCache | undefined;

  /** @param shared read only if it is authentic: else anybody could move a tag */
  constructor(shared: ByteCache | undefined) {
    this.#shared = shared;
  }

  /** @param key of an upstream's repository and reference */
  async find(key: string): Promise<SharedAnswer | undefined> {
    if (this.#shared?.isAuthentic !== true) return undefined;
    const hit = await this.#shared.get(KEY_PREFIX + key);
    return hit && decode(hit.bytes);
  }

  noteTag(key: string, digest: Digest): void {
    this.#note(key, { digest });
  }

  noteAbsence(key: string, { code, message }: SpandrelError): void {
    this.#note(key, { code, message });
  }

  #note(key: string, answer: Readonly<Record<string, string>>): void {
    if (this.#shared?.isAuthentic !== true) return;
    void this.#shared.set(KEY_PREFIX + key, Buffer.from(JSON.stringify({ ...answer, atMs: steadyNow() })));
  }
}

function decode(bytes: Uint8Array): SharedAnswer | undefined {
  const value = tryParseJson(Buffer.from(bytes).toString());
  if (typeof value !== 'object' || value === null) return undefined;
  const { digest, code, message, atMs } = value as Readonly<Record<string, unknown>>;
  if (typeof atMs !== 'number') return undefined;
  const ageMs = sharedAgeMs(atMs, steadyNow());
  if (typeof digest === 'string' && isDigest(digest)) return { ageMs, digest };
  const known = ABSENCES.find((absence) => absence === code);
  if (known === undefined || typeof message !== 'string') return undefined;
  return { ageMs, absence: new SpandrelError(known, message) };
}

/** The upstream's answer that it has no such manifest; other errors say nothing that lasts. */
export function isAbsence(error: unknown): error is SpandrelError {
  return isSpandrelError(error, ...ABSENCES);
}
