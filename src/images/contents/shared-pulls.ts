import type { ByteCache } from '../../cache/byte-cache.ts';
import { type SharedNote, SharedNotes } from '../../cache/shared-notes.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import type { GatedImage } from './config-gate.ts';

const KEY_PREFIX = 'pull:1:';
/** A pull that began earlier is over. */
const LONGEST_PULL_MS = 10 * 60_000;

/** What has become of a blob that a node needs. */
export interface SharedStep {
  readonly what: 'requested' | 'received';
  readonly ageMs: number;
}

/**
 * What nodes in the middle of a pull have got from other replicas: the connections of one node may lead to
 * several. A wrong or lost entry lets a config go too early or too late, and nothing else.
 */
export class SharedPulls {
  readonly #notes: SharedNotes;

  constructor(shared: ByteCache | undefined) {
    this.#notes = new SharedNotes(shared, KEY_PREFIX);
  }

  get isShared(): boolean {
    return this.#notes.isShared;
  }

  noteImage(client: string, config: Digest, image: GatedImage): void {
    void this.#notes.note(`${client} image ${config}`, { ...image });
  }

  async image(client: string, config: Digest): Promise<GatedImage | undefined> {
    const note = await this.#find(`${client} image ${config}`);
    if (note === undefined) return undefined;
    const { sociIndex, ztocs, settleMs } = note.fields;
    const areDigests = [sociIndex, ztocs].flat().every((digest) => isDigest(String(digest)));
    if (!areDigests || !Array.isArray(ztocs) || typeof settleMs !== 'number') return undefined;
    return { sociIndex: sociIndex as Digest, ztocs: ztocs as Digest[], settleMs };
  }

  note(client: string, digest: Digest, what: SharedStep['what']): void {
    void this.#notes.note(`${client} ${digest}`, { what });
  }

  /** The last step of each that is known. */
  async steps(client: string, digests: readonly Digest[]): Promise<ReadonlyMap<Digest, SharedStep>> {
    const steps = new Map<Digest, SharedStep>();
    await Promise.all(
      digests.map(async (digest) => {
        const note = await this.#find(`${client} ${digest}`);
        const what = note?.fields['what'];
        if (note !== undefined && (what === 'requested' || what === 'received'))
          steps.set(digest, { what, ageMs: note.ageMs });
      }),
    );
    return steps;
  }

  forget(client: string, digests: readonly Digest[]): void {
    for (const digest of digests) void this.#notes.forget(`${client} ${digest}`);
  }

  async #find(key: string): Promise<SharedNote | undefined> {
    const note = await this.#notes.find(key);
    return note !== undefined && note.ageMs < LONGEST_PULL_MS ? note : undefined;
  }
}
