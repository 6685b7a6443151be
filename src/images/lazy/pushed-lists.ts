import { BoundedMap } from '../../cache/bounded-map.ts';
import { type ByteCache, sealedOnly } from '../../cache/byte-cache.ts';
import { type NoteRedis, sealedNotes, SharedNotes } from '../../cache/shared-notes.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';

export interface PushedListsDeps {
  /** Where replicas share lists while they count. */
  readonly redis: NoteRedis | undefined;
  /** Where lists outlive the replicas. Read only if it is authentic. */
  readonly lasting: ByteCache | undefined;
}

/** What is known before an upstream is asked. */
export interface ListLook {
  /** The list of any replica, while it counts. */
  readonly fresh: readonly Digest[] | undefined;
  /** For {@link PushedLists.note}. */
  readonly askedUs: number | undefined;
}

interface Listed {
  readonly digests: readonly Digest[];
  readonly atMs: number;
}

const PREFIX = 'pushed:1:';
const MAX_REMEMBERED = 10_000;
/** Publishers push an index some time after the image. */
const LIST_AGE_MS = 60_000;

/**
 * The SOCI indexes that upstreams have last listed for images. A list counts for a minute, for all replicas:
 * the same image has the same index on all.
 */
export class PushedLists {
  readonly #notes: SharedNotes;
  readonly #lasting: ByteCache | undefined;
  readonly #listed = new BoundedMap<Listed>({ maxEntries: MAX_REMEMBERED });

  constructor({ redis, lasting }: PushedListsDeps) {
    this.#notes = new SharedNotes(sealedNotes(redis), { prefix: PREFIX, lifetimeMs: LIST_AGE_MS });
    this.#lasting = lasting;
  }

  /** @param key of an image in a repository */
  async look(key: string): Promise<ListLook> {
    const look = await this.#notes.look(key);
    const shared = look?.note && parseDigests(look.note.fields['digests']);
    if (shared !== undefined && look?.note !== undefined && look.note.ageMs < LIST_AGE_MS) {
      this.#listed.set(key, { digests: shared, atMs: performance.now() - look.note.ageMs });
      return { fresh: shared, askedUs: look.nowUs };
    }
    // What only this replica knows would be another answer than that of the others.
    const own = look === undefined ? this.#listed.get(key) : undefined;
    const isFresh = own !== undefined && performance.now() - own.atMs < LIST_AGE_MS;
    return { fresh: isFresh ? own.digests : undefined, askedUs: look?.nowUs };
  }

  /** Notes what the upstream has listed. @returns the list that counts, perhaps that of another replica */
  async note(
    key: string,
    digests: readonly Digest[],
    askedUs: number | undefined,
  ): Promise<readonly Digest[]> {
    void this.#lasting?.set(PREFIX + key, Buffer.from(JSON.stringify(digests)));
    const noted =
      askedUs === undefined ? undefined : await this.#notes.note(key, { digests }, { afterUs: askedUs });
    const counting = parseDigests(noted?.note?.fields['digests']) ?? digests;
    this.#listed.set(key, { digests: counting, atMs: performance.now() });
    return counting;
  }

  /** However long ago: it counts while the upstream does not respond. */
  async last(key: string): Promise<readonly Digest[] | undefined> {
    const own = this.#listed.get(key);
    if (own !== undefined) return own.digests;
    const hit = await sealedOnly(this.#lasting)?.get(PREFIX + key);
    return hit && parseDigests(tryParseJson(Buffer.from(hit.bytes).toString()));
  }
}

function parseDigests(value: unknown): Digest[] | undefined {
  return Array.isArray(value) ? value.filter((one): one is Digest => isDigest(String(one))) : undefined;
}
