import type { StatementSync } from 'node:sqlite';

import { RecordFile, type RecordsOptions } from '../../blobs/shelves/record-file.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import { inOwnTurn } from '../../core/work/in-own-turn.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { BootProfile, BootProfiles } from '../boot-profile.ts';
import { parseProfile, printProfile } from './print-profile.ts';
import { type ObservedStart, RepositoryProfile } from './repository-profile.ts';

export interface LearnedProfilesOptions extends RecordsOptions {
  /** Shared with replicas: each learns from its own nodes. */
  readonly shared?: ByteCache | undefined;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

/** Repositories with profiles in memory; others are read from the file. */
const MAX_IN_MEMORY = 100;
/** Share of the store that profiles may take. */
const SHARE = 1 / 64;
const MIN_BYTES = 64 * 2 ** 20;
const MAX_REMEMBERED = 10_000;
const LOOK_AGAIN_MS = 5_000;
/** The largest profile has less. */
const MAX_SHARED_BYTES = 8 * 2 ** 20;
const SCHEMA =
  'CREATE TABLE IF NOT EXISTS profiles (repository TEXT PRIMARY KEY, body TEXT NOT NULL, ' +
  'changed INTEGER NOT NULL); CREATE INDEX IF NOT EXISTS profiles_by_change ON profiles (changed)';

/**
 * What starts have read, by repository, in a file that outlives the process. If there are too many profiles,
 * those go that have not changed for longest.
 */
export class LearnedProfiles implements BootProfiles, Disposable {
  readonly #recent = new BoundedMap<RepositoryProfile>({ maxEntries: MAX_IN_MEMORY });
  /** When the shared profile of a repository was last looked for. */
  readonly #looked = new BoundedMap<{ readonly atMs: number }>({ maxEntries: MAX_REMEMBERED });
  readonly #shared: ByteCache | undefined;
  readonly #now: () => number;
  readonly #file: RecordFile;
  readonly #find: StatementSync;
  readonly #list: StatementSync;
  readonly #put: StatementSync;
  readonly #deleteOldest: StatementSync;
  readonly #maxBytes: number;
  #bytes: number;
  #changes: number;

  private constructor(file: RecordFile, { storeBytes, shared, now }: LearnedProfilesOptions) {
    this.#shared = shared;
    this.#now = now ?? ((): number => performance.now());
    this.#file = file;
    this.#maxBytes = Math.max(MIN_BYTES, storeBytes * SHARE);
    const sums = file.prepare('SELECT SUM(LENGTH(body)) AS bytes, MAX(changed) AS last FROM profiles').get();
    this.#bytes = Number(sums?.['bytes'] ?? 0);
    this.#changes = Number(sums?.['last'] ?? 0);
    this.#find = file.prepare('SELECT body FROM profiles WHERE repository = ?');
    this.#list = file.prepare(
      'SELECT repository FROM profiles WHERE repository > ? ORDER BY repository LIMIT ?',
    );
    this.#put = file.prepare('INSERT OR REPLACE INTO profiles (repository, body, changed) VALUES (?, ?, ?)');
    this.#deleteOldest = file.prepare(
      'DELETE FROM profiles WHERE repository = (SELECT repository FROM profiles ORDER BY changed LIMIT 1) ' +
        'RETURNING repository, LENGTH(body) AS bytes',
    );
  }

  static open(path: string, options: LearnedProfilesOptions): LearnedProfiles {
    const { health, logger } = options;
    return RecordFile.open(
      path,
      { kind: 'profile', schema: SCHEMA, health, logger },
      (file) => new LearnedProfiles(file, options),
    );
  }

  async read(repository: Target): Promise<BootProfile | undefined> {
    return this.readNamed(targetKey(repository));
  }

  /** As {@link read}. @param repository as `targetKey` */
  async readNamed(repository: string): Promise<BootProfile | undefined> {
    await this.#takeShared(repository);
    return inOwnTurn(() => this.#load(repository)?.describe());
  }

  /** The repositories that have profiles, from the first one after `after` on, in bytewise order. */
  list(after: string, limit: number): string[] {
    const rows = this.#file.read(() => this.#list.all(after, limit)) ?? [];
    return rows.flatMap(({ repository }) => (typeof repository === 'string' ? [repository] : []));
  }

  /** Paths of the files of a profile. @param repository as `targetKey` */
  knownPaths(repository: string): Promise<Iterable<RawText>> {
    return inOwnTurn(() => [...(this.#load(repository)?.paths ?? [])]);
  }

  /** Adds what a start has read. @param repository as `targetKey` */
  async learn(repository: string, start: ObservedStart): Promise<void> {
    await this.#takeShared(repository);
    const body = await inOwnTurn(() => {
      const profile = this.#load(repository) ?? new RepositoryProfile();
      profile.learn(start);
      return this.#store(repository, profile);
    });
    await this.#shared?.set(sharedKey(repository), Buffer.from(body));
  }

  /** Replaces a profile by an imported one. @param repository as `targetKey` */
  async replace(repository: string, profile: BootProfile): Promise<void> {
    const body = await inOwnTurn(() => this.#store(repository, RepositoryProfile.from(profile)));
    await this.#shared?.set(sharedKey(repository), Buffer.from(body));
  }

  #load(repository: string): RepositoryProfile | undefined {
    const recent = this.#recent.get(repository);
    if (recent !== undefined) return recent;
    const body = this.#bodyOf(repository);
    const found = body === undefined ? undefined : parseProfile(body);
    if (found !== undefined) this.#recent.set(repository, found);
    return found;
  }

  #bodyOf(repository: string): string | undefined {
    const body = this.#file.read(() => this.#find.get(repository))?.['body'];
    return typeof body === 'string' ? body : undefined;
  }

  /**
   * Takes the profile of the replicas if it was learned from more starts than the own one. Two replicas that
   * learn at the same moment may lose a start.
   */
  async #takeShared(repository: string): Promise<void> {
    const looked = this.#looked.get(repository);
    if (this.#shared === undefined || (looked !== undefined && this.#now() - looked.atMs < LOOK_AGAIN_MS))
      return;
    this.#looked.set(repository, { atMs: this.#now() });
    const hit = await this.#shared.get(sharedKey(repository));
    if (hit === undefined || hit.bytes.byteLength > MAX_SHARED_BYTES) return;
    await inOwnTurn(() => {
      const found = parseProfile(Buffer.from(hit.bytes).toString());
      if (found !== undefined && found.starts > (this.#load(repository)?.starts ?? 0))
        this.#store(repository, found);
    });
  }

  /** @returns the profile as it is stored and shared */
  #store(repository: string, profile: RepositoryProfile): string {
    this.#recent.set(repository, profile);
    const body = printProfile(profile);
    this.#file.write(() => {
      const before = this.#bodyOf(repository)?.length ?? 0;
      this.#put.run(repository, body, ++this.#changes);
      this.#bytes += body.length - before;
      while (this.#bytes > this.#maxBytes) {
        const gone = this.#deleteOldest.get();
        if (gone === undefined) break;
        this.#bytes -= Number(gone['bytes']);
        this.#recent.delete(String(gone['repository']));
      }
    });
    return body;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function sharedKey(repository: string): string {
  return `profile:1:${repository}`;
}
