import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import {
  decodePrefetchRecord,
  encodePrefetchRecord,
  type PrefetchKey,
  type PrefetchRecord,
  type RecordedPrefetch,
} from './prefetch-record.ts';
import type { PrefetchRecords } from './prefetch-records.ts';

export interface PrefetchAnswersDeps {
  readonly records: PrefetchRecords;
  /** Where replicas share them. */
  readonly shared: ByteCache | undefined;
}

const KEY_PREFIX = 'prefetch:1:';
const BLOB_PREFIX = 'prefetch-artifact:1:';

/** Which prefetch artifacts SOCI indexes list, on this replica or another one: nodes may ask any of them. */
export class PrefetchAnswers {
  readonly #deps: PrefetchAnswersDeps;

  constructor(deps: PrefetchAnswersDeps) {
    this.#deps = deps;
  }

  /** What this replica or another one has decided. */
  async find(target: Target, key: PrefetchKey): Promise<PrefetchRecord | undefined> {
    const { records } = this.#deps;
    const known = records.find(target, key);
    if (known !== undefined) {
      this.#keep(
        [sharedKey(target, key), ...known.artifacts.map(({ digest }) => BLOB_PREFIX + digest)],
        known,
      );
      return known;
    }
    const shared = await this.#findShared(sharedKey(target, key));
    return shared?.image === key.image && shared.kind === key.kind ? records.put(target, shared) : undefined;
  }

  /** As `PrefetchRecords.findArtifact`, as far as this replica knows. */
  knownArtifact(digest: Digest): readonly RecordedPrefetch[] {
    return this.#deps.records.findArtifact(digest);
  }

  /** As {@link knownArtifact}, or as another replica has named it. */
  async findArtifact(digest: Digest): Promise<readonly RecordedPrefetch[]> {
    const known = this.knownArtifact(digest);
    if (known.length > 0) return known;
    const shared = await this.#findShared(BLOB_PREFIX + digest);
    return shared?.artifacts.filter((artifact) => artifact.digest === digest) ?? [];
  }

  /** Keeps a decision, unless there is one. Call before the index is named. @returns the one that counts */
  async put(target: Target, record: PrefetchRecord): Promise<PrefetchRecord> {
    const { records, shared } = this.#deps;
    if (shared === undefined) return records.put(target, record);
    const first = await shared.setNew(sharedKey(target, record), encodeBytes(record));
    const agreed = shared.isAuthentic ? first && decodeBytes(first.bytes) : undefined;
    const counts = records.put(target, agreed ?? record);
    const bytes = encodeBytes(counts);
    const artifacts = counts.artifacts.map(({ digest }) => BLOB_PREFIX + digest);
    await Promise.all(artifacts.map((key) => shared.set(key, bytes)));
    return counts;
  }

  #keep(keys: readonly string[], record: PrefetchRecord): void {
    for (const key of keys) this.#deps.shared?.keep?.(key, () => encodeBytes(record));
  }

  /** Without a key, anybody could have written the entry. */
  async #findShared(key: string): Promise<PrefetchRecord | undefined> {
    const { shared } = this.#deps;
    if (shared?.isAuthentic !== true) return undefined;
    const hit = await shared.get(key);
    return hit && decodeBytes(hit.bytes);
  }
}

function encodeBytes(record: PrefetchRecord): Buffer {
  return Buffer.from(encodePrefetchRecord(record));
}

function decodeBytes(bytes: Uint8Array): PrefetchRecord | undefined {
  return decodePrefetchRecord(Buffer.from(bytes).toString());
}

function sharedKey(target: Target, { image, kind }: PrefetchKey): string {
  return `${KEY_PREFIX}${targetKey(target)}:${image}:${kind}`;
}
