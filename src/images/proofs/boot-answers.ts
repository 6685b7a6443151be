import { promisify } from 'node:util';
import { deflateRaw, inflateRaw } from 'node:zlib';

import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { type BootRecipe, decodeRecipe, encodeRecipe } from './boot-recipe.ts';
import type { BootAnswer, BootRecords } from './boot-records.ts';

export interface BootAnswersDeps {
  readonly records: BootRecords;
  /** Where replicas share them. */
  readonly shared: ByteCache | undefined;
}

const KEY_PREFIX = 'boot:1:';
/** Of a blob that only images with a boot layer have. */
const BLOB_PREFIX = 'boot-blob:1:';
/** Of the boot layer that an image got after it was answered without one. */
const LATER_PREFIX = 'boot-later:1:';
const NONE = Buffer.from('none');
const MAX_RECIPE_BYTES = 16 * 2 ** 20;
const compress = promisify(deflateRaw);
const decompress = promisify(inflateRaw);

/**
 * What tags of a repository have answered, on this replica or on another one: nodes may ask any of them for a
 * boot layer that one has named.
 */
export class BootAnswers {
  readonly #deps: BootAnswersDeps;

  constructor(deps: BootAnswersDeps) {
    this.#deps = deps;
  }

  /** As {@link BootRecords.find}: as far as this replica knows. */
  known(target: Target, image: Digest): BootAnswer | undefined {
    return this.#deps.records.find(target, image);
  }

  /**
   * As {@link known}, or as another replica has answered.
   * @param mayImprove another replica may have added a boot layer since
   */
  async find(target: Target, image: Digest, mayImprove = false): Promise<BootAnswer | undefined> {
    const known = this.known(target, image);
    if (known !== undefined) this.#keep(target, image, known);
    if (known !== undefined && !(mayImprove && known === 'none')) return known;
    const later = mayImprove ? await this.#findShared(sharedKey(target, image, LATER_PREFIX)) : undefined;
    const shared = later ?? (await this.#findShared(sharedKey(target, image)));
    return shared === undefined ? known : this.#deps.records.put(target, image, shared);
  }

  /** As {@link BootRecords.findBlob}: as far as this replica knows. */
  knownBlob(digest: Digest): readonly BootRecipe[] {
    return this.#deps.records.findBlob(digest);
  }

  /** As {@link knownBlob}, or as another replica has named it. */
  async findBlob(target: Target, digest: Digest): Promise<readonly BootRecipe[]> {
    const known = this.knownBlob(digest);
    const [first] = known;
    if (first !== undefined) {
      this.#deps.shared?.keep?.(BLOB_PREFIX + digest, () => encodeAnswer(first));
      return known;
    }
    const shared = await this.#findShared(BLOB_PREFIX + digest);
    if (shared === undefined || shared === 'none') return [];
    if (![shared.layer.digest, shared.config.digest].includes(digest)) return [];
    // Remembered if it is of this repository.
    await this.find(target, shared.image, true);
    return [shared];
  }

  /**
   * As {@link BootRecords.put}, for other replicas too: the first answer counts. Call before an answer is
   * given.
   */
  async put(target: Target, image: Digest, answer: BootAnswer): Promise<BootAnswer> {
    const { records, shared } = this.#deps;
    if (shared === undefined) return records.put(target, image, answer);
    const isLater = answer !== 'none' && this.known(target, image) === 'none';
    const key = sharedKey(target, image, isLater ? LATER_PREFIX : KEY_PREFIX);
    const first = await shared.setNew(key, await encodeAnswer(answer));
    const counts = shared.isAuthentic && first !== undefined ? await decodeAnswer(first.bytes) : undefined;
    const kept = records.put(target, image, counts ?? answer);
    if (kept !== 'none') {
      const bytes = await encodeAnswer(kept);
      const blobs = [kept.layer.digest, kept.config.digest];
      await Promise.all(blobs.map((digest) => shared.set(BLOB_PREFIX + digest, bytes)));
    }
    return kept;
  }

  /** Nodes may ask for the boot layer as long as they have containers of the image. */
  #keep(target: Target, image: Digest, answer: BootAnswer): void {
    const { shared } = this.#deps;
    shared?.keep?.(sharedKey(target, image), () => encodeAnswer(answer));
    if (answer === 'none') return;
    for (const { digest } of [answer.layer, answer.config])
      shared?.keep?.(BLOB_PREFIX + digest, () => encodeAnswer(answer));
  }

  /** Without a key, anybody could have written the entry. */
  async #findShared(key: string): Promise<BootAnswer | undefined> {
    const { shared } = this.#deps;
    if (shared?.isAuthentic !== true) return undefined;
    const hit = await shared.get(key);
    return hit && decodeAnswer(hit.bytes);
  }
}

async function encodeAnswer(answer: BootAnswer): Promise<Uint8Array> {
  return answer === 'none' ? NONE : compress(encodeRecipe(answer));
}

/** Reverses {@link encodeAnswer}; `undefined` if that is not possible. */
async function decodeAnswer(bytes: Uint8Array): Promise<BootAnswer | undefined> {
  if (NONE.equals(bytes)) return 'none';
  const text = await decompress(bytes, { maxOutputLength: MAX_RECIPE_BYTES }).catch(() => undefined);
  return text && decodeRecipe(text);
}

function sharedKey(target: Target, image: Digest, prefix = KEY_PREFIX): string {
  return `${prefix}${targetKey(target)}:${image}`;
}
